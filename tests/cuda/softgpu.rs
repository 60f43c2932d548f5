//! What the driver in software can be told and a real one cannot: `softgpu/include/softgpu_counters.h`. Nothing here may be
//! called where there is no driver.

use std::ffi::{CString, c_char, c_int};

type Schedule = unsafe extern "C" fn(*const c_char) -> c_int;

fn function() -> Option<Schedule> {
    // SAFETY: the function of that name, where the driver has one, has this signature; the library is never closed.
    unsafe { cudarc::driver::sys::culib().get::<Schedule>(b"softgpu_schedule\0").ok().map(|symbol| *symbol) }
}

/// Whether the driver is the one in software.
pub fn present() -> bool {
    function().is_some()
}

/// From here on threads, blocks and streams run in that order: `forward`, `reverse`, `random:SEED`. In the whole process.
pub fn schedule(order: &str) {
    let set = function().expect("softgpu");
    let text = CString::new(order).expect("no zero in it");
    // SAFETY: a text that ends with a zero, which is read before the call returns.
    assert_eq!(unsafe { set(text.as_ptr()) }, 0, "softgpu_schedule refuses {order}");
}
