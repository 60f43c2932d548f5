//! The next batch is prepared while this one trains.

use std::{
    panic,
    sync::mpsc::{Receiver, sync_channel},
    thread::{Builder, JoinHandle},
};

use crate::error::{Error, Result};

/// An iterator whose items are made on a thread of its own, in their order, some before they are asked for.
///
/// ```
/// use gatefold::data::{Background, Batches};
/// let batches = Batches::new(1000, 128)?.map(|batch| batch.len());
/// let sizes: Vec<usize> = Background::new(batches, 2)?.collect();
/// assert_eq!(sizes, [128, 128, 128, 128, 128, 128, 128, 104]);
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// Dropped early, it waits for the item that is being made. A panic on the thread goes on in the one that asks for the item.
#[derive(Debug)]
pub struct Background<T> {
    items: Option<Receiver<T>>,
    worker: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Background<T> {
    /// Starts the thread, which makes up to `ahead` items before they are asked for.
    ///
    /// # Errors
    /// [`Error::Argument`] for 0 items ahead, or more than 65,536, for which room is made at once;
    /// [`Error::Unavailable`] where the system gives no thread.
    pub fn new<I>(items: I, ahead: usize) -> Result<Self>
    where
        I: Iterator<Item = T> + Send + 'static,
    {
        const OP: &str = "Background::new";
        if !(1..=1 << 16).contains(&ahead) {
            return Err(Error::argument(OP, format!("{ahead} items ahead"), "1 to 65,536"));
        }
        // One more waits in the worker's hand.
        let (sender, receiver) = sync_channel(ahead - 1);
        let work = move || {
            for item in items {
                if sender.send(item).is_err() {
                    return;
                }
            }
        };
        let worker = Builder::new().name("gatefold-batches".into()).spawn(work);
        let worker = worker.map_err(|error| Error::Unavailable {
            op: OP,
            what: "a thread".into(),
            reason: error.to_string(),
        })?;
        Ok(Background { items: Some(receiver), worker: Some(worker) })
    }
}

impl<T> Iterator for Background<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if let Ok(item) = self.items.as_ref()?.recv() {
            return Some(item);
        }
        self.items = None;
        if let Some(Err(fault)) = self.worker.take().map(JoinHandle::join) {
            panic::resume_unwind(fault);
        }
        None
    }
}

impl<T> Drop for Background<T> {
    fn drop(&mut self) {
        self.items = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn in_order_and_not_too_far_ahead() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut items =
            Background::new((0..100).inspect(move |_| _ = count.fetch_add(1, Ordering::SeqCst)), 3).unwrap();
        for i in 0..100 {
            assert_eq!(items.next(), Some(i));
            assert!(made.load(Ordering::SeqCst) <= i + 1 + 3 + 1);
        }
        assert_eq!((items.next(), items.next()), (None, None));
    }

    #[test]
    fn ends_when_dropped() {
        let made = Arc::new(AtomicUsize::new(0));
        let (count, alive) = (made.clone(), Arc::downgrade(&made));
        let mut items = Background::new((0..).inspect(move |_| _ = count.fetch_add(1, Ordering::SeqCst)), 1).unwrap();
        assert_eq!(items.next(), Some(0));
        drop((items, made));
        assert!(alive.upgrade().is_none(), "the thread goes on");
        assert!(Background::new(0..1, 0).is_err() && Background::new(0..1, usize::MAX).is_err());
    }

    #[test]
    fn a_panic_goes_on() {
        let mut items = Background::new((0..2).map(|i| if i == 1 { panic!("no more") } else { i }), 1).unwrap();
        assert_eq!(items.next(), Some(0));
        let fault = panic::catch_unwind(panic::AssertUnwindSafe(|| items.next())).unwrap_err();
        assert_eq!(fault.downcast_ref::<&str>(), Some(&"no more"));
        assert_eq!(items.next(), None);
    }
}
