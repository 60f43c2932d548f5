//! How work is divided among threads: in pieces of fixed size, so that no result depends on how many threads there are.
//!
//! The pool is entered in one place, behind a `dyn`: a copy of its machinery for each kernel would be most of the crate's
//! code, and a call through a pointer is nothing beside a piece.

use std::{
    any::Any,
    cell::Cell,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rayon::prelude::*;

/// Below this many elements one thread is faster than handing out work.
pub const PARALLEL: usize = 1 << 16;
/// Elements of one piece: a few of them fit into a core's private cache.
pub const PIECE: usize = 1 << 14;

/// Memory that tasks share, each writing a part of its own.
#[derive(Debug)]
pub struct Shared<T> {
    ptr: *mut T,
    len: usize,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: tasks that share it write disjoint parts, which each use states.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn new(slice: &mut [T]) -> Self {
        Shared { ptr: slice.as_mut_ptr(), len: slice.len() }
    }

    /// Where it begins.
    #[cfg(target_arch = "x86_64")]
    pub fn start(&self) -> *mut T {
        self.ptr
    }

    /// Where `len` elements from `at` on begin, which must be inside.
    #[inline(always)]
    pub fn at(&self, at: usize, len: usize) -> *mut T {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a part outside its memory");
        self.ptr.wrapping_add(at)
    }

    /// A part to read.
    ///
    /// # Safety
    /// The slice it was made of is still borrowed for it, and nobody writes these elements meanwhile.
    #[inline(always)]
    pub unsafe fn read(&self, at: usize, len: usize) -> &[T] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a part outside its memory");
        // SAFETY: inside the slice it was made of, and nobody writes it.
        unsafe { std::slice::from_raw_parts(self.ptr.add(at), len) }
    }

    /// # Safety
    /// The slice it was made of is still borrowed for it, and nobody else uses these elements meanwhile.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the caller vouches for disjoint parts")]
    pub unsafe fn part(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "a part outside its memory");
        // SAFETY: inside the slice it was made of, and the caller vouches for exclusive use.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }
}

/// Calls `f(0)` … `f(count − 1)`, on the threads of the pool.
pub fn tasks(count: usize, f: &(dyn Fn(usize) + Sync)) {
    match count {
        0 => {}
        1 => f(0),
        _ if HOLDING.get() > 0 => offered(count, f),
        _ => (0..count).into_par_iter().with_max_len(1).for_each(f),
    }
}

thread_local! {
    /// How many a thread has of [`Holding`].
    static HOLDING: Cell<usize> = const { Cell::new(0) };
}

/// Says that the thread holds a lock that threads of the pool may want: as long as it does, its [`tasks`] do not wait for the pool. All
/// of that may be waiting for the lock, and a thread of the pool that waits for others begins meanwhile on work that may want it too.
pub struct Holding(PhantomData<*const ()>);

impl Holding {
    pub fn new() -> Self {
        HOLDING.set(HOLDING.get() + 1);
        Holding(PhantomData)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        HOLDING.set(HOLDING.get() - 1);
    }
}

/// Tasks that threads of the pool may take part in, but need not.
struct Offer {
    f: *const (dyn Fn(usize) + Sync),
    count: usize,
    /// Tasks that were begun; more than there are, once somebody has found none left.
    begun: AtomicUsize,
    done: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `f` points to what is Sync, and `take_part` says why it is there when it is called.
unsafe impl Send for Offer {}
// SAFETY: as above.
unsafe impl Sync for Offer {}

/// [`tasks`] of who must not wait for the pool: this thread does them, with what others come, and waits only for tasks that those have begun.
fn offered(count: usize, f: &(dyn Fn(usize) + Sync)) {
    type Task<'a> = *const (dyn Fn(usize) + Sync + 'a);
    // SAFETY: pointers that differ in a lifetime alone. Who comes too late for a task may have it when `f` is gone, and does not follow it.
    let f = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(f) };
    let (begun, done, panic) = Default::default();
    let offer = Arc::new(Offer { f, count, begun, done, panic });
    for _ in 1..count.min(rayon::current_num_threads()) {
        let offer = offer.clone();
        rayon::spawn(move || offer.take_part());
    }
    offer.take_part();
    let mut turns = 0;
    while offer.done.load(Ordering::Acquire) < count {
        wait(&mut turns);
    }
    let panic = offer.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

impl Offer {
    /// Does tasks until none is left.
    fn take_part(&self) {
        // What a task divides further is not waited for either.
        let _holding = Holding::new();
        loop {
            let task = self.begun.fetch_add(1, Ordering::Relaxed);
            if task >= self.count {
                return;
            }
            // SAFETY: `offered`, whose caller has `f`, does not return before all tasks are done, and this one is not.
            let f = unsafe { &*self.f };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(task))) {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

/// One turn of a loop that waits.
fn wait(turns: &mut usize) {
    *turns += 1;
    if turns.is_multiple_of(YIELD) { std::thread::yield_now() } else { std::hint::spin_loop() }
}

/// Most parts of [`in_step`].
pub const MOST_PARTS: usize = 16;
/// Turns of a loop for which a part waits for the thread that it belongs to (about 20 µs).
const PATIENCE: usize = 400;
/// Turns after which a thread that waits lets others run.
const YIELD: usize = 4000;

/// One part of a group.
#[derive(Default)]
struct Part {
    /// Items that were begun.
    begun: AtomicUsize,
    /// A thread is there for it.
    joined: AtomicBool,
}

/// On lines of the cache of its own.
#[derive(Default)]
#[repr(align(128))]
struct Alone<T>(T);

/// Parts that go through their items in step.
#[derive(Default)]
struct Group {
    /// Parts of items that are done.
    done: Alone<AtomicUsize>,
    parts: [Alone<Part>; MOST_PARTS],
    /// One of them has panicked.
    broken: AtomicBool,
}

/// Calls `f(group, item, part)` for all items of all groups, of which there may be two: each item in its parts at the same time, and only
/// when the item before it is done. A part stays with one thread, whose cache keeps what it reads, but no part waits for a thread that has
/// not come: others take it.
pub fn in_step(groups: usize, parts: usize, items: usize, f: &(dyn Fn(usize, usize, usize) + Sync)) {
    assert!(groups <= 2 && parts <= MOST_PARTS, "{groups} groups of {parts} parts");
    let state: [Group; 2] = Default::default();
    tasks(groups * parts, &|i| state[i / parts].join(i % parts, parts, items, &|item, part| f(i / parts, item, part)));
}

impl Group {
    fn join(&self, own: usize, parts: usize, items: usize, f: &dyn Fn(usize, usize)) {
        struct Guard<'a>(&'a AtomicBool);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
        }
        let _guard = Guard(&self.broken);
        self.parts[own].0.joined.store(true, Ordering::Relaxed);
        let mut turns = 0;
        loop {
            let item = self.done.0.load(Ordering::Acquire) / parts;
            if item == items || self.broken.load(Ordering::Relaxed) {
                return;
            }
            let may =
                |part: usize| part == own || turns > PATIENCE || !self.parts[part].0.joined.load(Ordering::Relaxed);
            // An item that a part has not begun is the one that all are at.
            let begin = |part: &usize| {
                let begun = &self.parts[*part].0.begun;
                begun.load(Ordering::Relaxed) == item
                    && begun.compare_exchange(item, item + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            };
            if let Some(part) = (0..parts).map(|i| (own + i) % parts).filter(|&part| may(part)).find(begin) {
                f(item, part);
                self.done.0.fetch_add(1, Ordering::Release);
                turns = 0;
            } else {
                wait(&mut turns);
            }
        }
    }
}

/// Calls `f(index, chunk)` for the chunks of `size` elements of `y`, on the threads of the pool.
pub fn chunks<T: Send>(y: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let (len, shared) = (y.len(), Shared::new(y));
    tasks(len.div_ceil(size), &|i| {
        // SAFETY: each task has its own index, so its own chunk.
        f(i, unsafe { shared.part(i * size, size.min(len - i * size)) });
    });
}

/// Calls `f(start, piece)` for the pieces of `y`.
pub fn over<T: Send>(y: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    if y.len() < PARALLEL {
        f(0, y);
    } else {
        chunks(y, PIECE, |i, piece| f(i * PIECE, piece));
    }
}

/// Calls `f(first row, rows)` for groups of whole rows of `y`; `work` is what one row costs, in elements.
pub fn rows<T: Send>(y: &mut [T], row: usize, work: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if y.is_empty() || row == 0 {
        return;
    }
    if (y.len() / row).saturating_mul(work) < PARALLEL {
        f(0, y);
    } else {
        let group = (PIECE / work.max(1)).max(1);
        chunks(y, group * row, |i, piece| f(i * group, piece));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every part of an item sees all parts of the item before, on any number of threads, fewer than parts too.
    #[test]
    fn items_follow_each_other() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for (groups, parts, items) in [(1, 1, 3), (1, 2, 500), (2, 3, 200), (2, 16, 50), (1, 4, 0)] {
                let counts: [AtomicUsize; 2] = Default::default();
                pool.install(|| {
                    in_step(groups, parts, items, &|group, item, _| {
                        let before = counts[group].load(Ordering::Relaxed);
                        assert!((item * parts..(item + 1) * parts).contains(&before), "{before} before item {item}");
                        counts[group].fetch_add(1, Ordering::Relaxed);
                    })
                });
                let want = |group| if group < groups { parts * items } else { 0 };
                assert_eq!(counts.map(AtomicUsize::into_inner), [want(0), want(1)]);
            }
        }
    }

    /// All others of the pool wait for a lock that this thread holds, and its tasks are done nevertheless.
    #[test]
    fn who_holds_a_lock_does_not_wait_for_the_pool() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let (lock, waiting, sum) = (Mutex::new(()), AtomicUsize::new(0), AtomicUsize::new(0));
        pool.scope(|s| {
            let held = lock.lock().unwrap();
            for _ in 0..5 {
                s.spawn(|_| {
                    waiting.fetch_add(1, Ordering::Relaxed);
                    drop(lock.lock().unwrap());
                });
            }
            while waiting.load(Ordering::Relaxed) < 2 {
                std::thread::yield_now();
            }
            let _holding = Holding::new();
            tasks(100, &|i| tasks(2, &|part| _ = sum.fetch_add(2 * i + part, Ordering::Relaxed)));
            drop(held);
        });
        assert_eq!(sum.into_inner(), (0..200).sum::<usize>());
    }

    #[test]
    fn offered_tasks_are_shared_out() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let met = std::sync::Barrier::new(2);
        pool.install(|| {
            let _holding = Holding::new();
            tasks(2, &|_| _ = met.wait());
        });
    }

    #[test]
    #[should_panic(expected = "in a task")]
    fn a_panic_of_a_task_is_passed_on() {
        let _holding = Holding::new();
        tasks(10, &|i| assert!(i != 3, "in a task"));
    }

    #[test]
    #[should_panic(expected = "in an item")]
    fn a_panic_ends_all() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| in_step(1, 2, 10, &|_, item, part| assert!(item < 5 || part == 0, "in an item")));
    }
}
