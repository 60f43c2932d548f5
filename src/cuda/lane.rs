//! Lanes: streams of one device that run beside each other, each with a cuBLAS handle of its own. Lane 0 is the device's stream,
//! on which everything else runs; whoever uses another makes it wait for lane 0 first and lane 0 wait for it at the end, so
//! that memory may be handed out again in the order of lane 0.

use std::sync::{Mutex, MutexGuard, OnceLock};

use cudarc::driver::{result, sys};

use super::{blas::Blas, context::Context, driver::DriverError};
use crate::error::{Error, Result};

/// How many a device has.
pub const LANES: usize = 4;

/// A stream, the event by which others wait for it, and its cuBLAS handle once there was a product.
pub struct Lane {
    pub stream: sys::CUstream,
    event: sys::CUevent,
    blas: OnceLock<Mutex<Blas>>,
}

// SAFETY: streams and events may be used from any thread, and the handle is behind a lock.
unsafe impl Send for Lane {}
// SAFETY: as above.
unsafe impl Sync for Lane {}

impl Lane {
    /// A device's lane of that number.
    pub fn of(context: &'static Context, index: usize) -> Result<&'static Lane> {
        Lane::in_slot(context, &context.lanes[index], index == 0)
    }

    /// The lane for copies that run beside everything else.
    pub fn copies(context: &'static Context) -> Result<&'static Lane> {
        Lane::in_slot(context, &context.copies, false)
    }

    fn in_slot(context: &'static Context, slot: &'static OnceLock<Lane>, main: bool) -> Result<&'static Lane> {
        if let Some(lane) = slot.get() {
            return Ok(lane);
        }
        let lane = context.handles.with("stream", || {
            let stream = match main {
                true => context.handles.stream,
                false => result::stream::create(result::stream::StreamKind::NonBlocking)?,
            };
            let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
            Ok(Lane { stream, event, blas: OnceLock::new() })
        })?;
        // Another thread's may have come first; this one's stream is then never used.
        Ok(slot.get_or_init(|| lane))
    }

    /// Its cuBLAS handle, made at first.
    pub fn blas(&self, context: &'static Context) -> Result<&Mutex<Blas>> {
        match self.blas.get() {
            Some(blas) => Ok(blas),
            None => {
                let blas = Blas::new(context, self.stream)?;
                // What its memory was used for before may still be queued.
                self.wait_for(context, Lane::of(context, 0)?)?;
                Ok(self.blas.get_or_init(|| Mutex::new(blas)))
            }
        }
    }

    /// Held while a product is queued, which may be several kernels that hand on what they have in the handle's workspace: none of
    /// another product's may come between, nor a graph's that was captured of this lane. `None`: there has been no product.
    pub fn products(&self) -> Option<MutexGuard<'_, Blas>> {
        Some(self.blas.get()?.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// What is queued on this lane from here on waits for what is on `other` now.
    pub fn wait_for(&self, context: &Context, other: &Lane) -> Result<()> {
        if self.stream == other.stream {
            return Ok(());
        }
        // SAFETY: streams and event live as long as the process. An event may be recorded anew while somebody waits for an
        // earlier record; a later record of the same stream is waited for with the earlier.
        context.handles.with("stream", || unsafe { order(other.stream, other.event, self.stream) })
    }

    /// The same for a stream of the caller's, which must not be capturing: what waits for it would be captured too, whoever's it is.
    ///
    /// # Safety
    /// It is a stream of this device.
    pub unsafe fn wait_for_callers(&self, context: &Context, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the caller's promise.
        let status = context.handles.with("stream", || unsafe { result::stream::is_capturing(stream) })?;
        if status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Err(Error::argument("stream", "one that is being captured", {
                "a stream outside of captures: a program's step is captured by CapturedStep"
            }));
        }
        // SAFETY: the caller's promise.
        context.handles.with("stream", || unsafe { order_once(stream, self.stream) })
    }

    /// A stream of the caller's waits for what is on this lane now.
    ///
    /// # Safety
    /// It is a stream of this device.
    pub unsafe fn release_callers(&self, context: &Context, stream: sys::CUstream) -> Result<()> {
        // SAFETY: the caller's promise.
        context.handles.with("stream", || unsafe { order_once(self.stream, stream) })
    }
}

/// # Safety
/// Live streams and a live event.
unsafe fn order(first: sys::CUstream, event: sys::CUevent, then: sys::CUstream) -> Result<(), DriverError> {
    // SAFETY: the caller's promise.
    unsafe {
        result::event::record(event, first)?;
        result::stream::wait_event(then, event, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)
    }
}

/// # Safety
/// Live streams.
unsafe fn order_once(first: sys::CUstream, then: sys::CUstream) -> Result<(), DriverError> {
    let event = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
    // SAFETY: the caller's promise; an event may be destroyed while it is waited for.
    unsafe { order(first, event, then).and(result::event::destroy(event)) }
}
