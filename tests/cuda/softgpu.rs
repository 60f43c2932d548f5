//! What the driver in software can be told and a real one cannot: `softgpu/include/softgpu_counters.h`. Nothing here may be
//! called where there is no driver.

use std::ffi::{CStr, CString, c_char, c_int};

type Schedule = unsafe extern "C" fn(*const c_char) -> c_int;

/// A function of the driver's by its name, which ends with a zero.
///
/// # Safety
/// It has that type.
unsafe fn named<F: Copy>(name: &[u8]) -> Option<F> {
    // SAFETY: the caller's promise; the library is never closed.
    unsafe { cudarc::driver::sys::culib().get::<F>(name).ok().map(|symbol| *symbol) }
}

fn function() -> Option<Schedule> {
    // SAFETY: as in the header.
    unsafe { named(b"softgpu_schedule\0") }
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

/// A fault in the kernels that run from here on.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    None,
    /// One release is not made.
    LostRelease(u64),
    /// One acquire does not wait.
    HastyAcquire(u64),
    /// No acquire waits.
    NoWait,
}

/// Plants it; how many releases or acquires there were since the one before was planted, if it was one of those.
pub fn plant(fault: Fault) -> u64 {
    let (kind, number) = match fault {
        Fault::None => (0, 0),
        Fault::LostRelease(n) => (1, n),
        Fault::HastyAcquire(n) => (2, n),
        Fault::NoWait => (3, 0),
    };
    type Plant = unsafe extern "C" fn(c_int, u64) -> u64;
    // SAFETY: as in the header.
    unsafe { named::<Plant>(b"softgpu_plant\0").expect("softgpu")(kind, number) }
}

/// The text of the last fault, which and all before it are forgiven.
pub fn forgive() -> String {
    type Last = unsafe extern "C" fn() -> *const c_char;
    type Forgive = unsafe extern "C" fn() -> u64;
    // SAFETY: as in the header; the text is copied before the next call.
    unsafe {
        let text = CStr::from_ptr(named::<Last>(b"softgpu_last_fault\0").expect("softgpu")());
        let text = text.to_string_lossy().into_owned();
        named::<Forgive>(b"softgpu_forgive\0").expect("softgpu")();
        text
    }
}

/// `struct softgpu_traffic`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub global_in: u64,
    pub global_out: u64,
    pub shared_in: u64,
    pub shared_out: u64,
    pub acquires: u64,
    pub releases: u64,
    pub mma: u64,
    pub cluster_out: u64,
}

/// What the persistent kernels in `f` moved, on any thread.
pub fn traffic(f: impl FnOnce()) -> Traffic {
    type Reset = unsafe extern "C" fn();
    type Read = unsafe extern "C" fn(*mut Traffic, u64) -> c_int;
    let mut traffic = Traffic::default();
    // SAFETY: as in the header; reads into one struct of this size, or nothing where the driver knows another.
    unsafe {
        named::<Reset>(b"softgpu_reset\0").expect("softgpu")();
        f();
        let read = named::<Read>(b"softgpu_traffic_since_reset\0").expect("softgpu");
        assert_eq!(read(&mut traffic, size_of::<Traffic>() as u64), 0, "softgpu_counters.h has changed");
    }
    traffic
}
