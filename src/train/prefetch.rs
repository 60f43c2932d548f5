//! Batches that are on the device when they are wanted.

use std::fmt;

use crate::{device::Device, error::Result, storage, tensor::Tensor};

/// An iterator over batches that brings the next one to the device while the present one is worked on: on a GPU out of pinned memory,
/// on a stream of its own, and nothing waits for it on the host.
///
/// A batch is an array of tensors on the CPU; it comes out on the device. One batch is under way at a time, so that two of them are in
/// the device's memory.
///
/// ```
/// use gatefold::{Device, Result, Tensor, train::Prefetch};
/// let device = Device::best();
/// let batches = (0..3).map(|i| Ok([Tensor::new([i as f32, 1.0], &Device::Cpu)?, Tensor::new([i as i64], &Device::Cpu)?]));
/// for batch in Prefetch::new(batches, &device)? {
///     let [x, y] = batch?;
///     assert_eq!((x.device(), x.to_vec::<f32>()?[0] as i64), (device, y.to_vec::<i64>()?[0]));
/// }
/// # Ok::<(), gatefold::Error>(())
/// ```
pub struct Prefetch<I, const N: usize> {
    batches: I,
    device: Device,
    next: Option<Result<[Tensor; N]>>,
}

impl<I, const N: usize> fmt::Debug for Prefetch<I, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefetch").field("device", &self.device).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<I: Iterator<Item = Result<[Tensor; N]>>, const N: usize> Prefetch<I, N> {
    /// Begins with the first batch.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) for a device that this build or machine lacks.
    pub fn new(batches: impl IntoIterator<IntoIter = I>, device: &Device) -> Result<Self> {
        device.check("Prefetch")?;
        let mut prefetch = Prefetch { batches: batches.into_iter(), device: *device, next: None };
        prefetch.begin();
        Ok(prefetch)
    }

    /// Takes the next batch from the iterator and sets it on its way.
    fn begin(&mut self) {
        let device = self.device;
        self.next = self.batches.next().map(|batch| {
            let mut batch = batch?;
            let begun = batch.iter_mut().filter(|tensor| tensor.device() != device).try_for_each(|tensor| {
                *tensor = tensor.to_device(&Device::Cpu)?.beside(device)?;
                Ok(())
            });
            if begun.is_err() {
                // Those that are on their way already still are when their memory is let go.
                storage::arrived(device)?;
            }
            begun.map(|()| batch)
        });
    }
}

impl<I: Iterator<Item = Result<[Tensor; N]>>, const N: usize> Iterator for Prefetch<I, N> {
    type Item = Result<[Tensor; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next.take()?;
        // Before the one behind it is begun, which nobody needs to wait for yet.
        let batch = storage::arrived(self.device).and(batch);
        self.begin();
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.batches.size_hint();
        let under_way = usize::from(self.next.is_some());
        (least.saturating_add(under_way), most.and_then(|most| most.checked_add(under_way)))
    }
}

impl<I, const N: usize> Drop for Prefetch<I, N> {
    fn drop(&mut self) {
        // The memory of a batch that nobody took may be handed out again once it has been filled. An error is told by the next call.
        if self.next.is_some() {
            let _ = storage::arrived(self.device);
        }
    }
}
