//! Work that is captured once and replayed with one launch: CUDA graphs, and a cache of those of recurrent sequences.

use std::collections::{HashMap, HashSet};

use cudarc::driver::{result, sys};

use super::{
    allocator::OpenPool,
    context::Context,
    driver::{self, CUresult, DriverError, Handles},
    lane::Lane,
};
use crate::error::{Error, Result};

/// Graphs that a device keeps at most, nodes of all of them together (about half a kilobyte each on host and device), and nodes
/// of one: beyond it, launching is no longer what takes the time.
const GRAPHS: usize = 64;
const NODES: usize = 1 << 17;
const LONGEST: usize = 1 << 15;
/// Calls that are remembered so that a second one is known.
const SEEN: usize = 1024;
/// Captures that failed one after the other, as a power of two, after which the pause does not grow any more.
const LONGEST_PAUSE: u32 = 12;

/// A graph, ready to be launched.
pub struct Graph {
    exec: sys::CUgraphExec,
    pub nodes: usize,
}

// SAFETY: a graph belongs to the process; launches are serialised by whoever holds it.
unsafe impl Send for Graph {}

impl Graph {
    /// Captures what `work` queues on the device's lanes, instead of running it. Other threads' work waits meanwhile.
    ///
    /// Not all of a process is this crate's: whoever waits for the whole context meanwhile (`cuCtxSynchronize`,
    /// `cudaDeviceSynchronize`), on whichever thread, is refused by the driver, and the capture is invalid from there on.
    ///
    /// # Errors
    /// Those of `work`, and the driver's where it does not capture what was queued or the capture has become invalid. Nothing has run
    /// then, and the lanes are as before.
    pub fn capture(context: &'static Context, op: &'static str, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let handles = &context.handles;
        let _alone = handles.alone();
        let lane = Lane::of(context, 0)?;
        // SAFETY: the stream lives; every begin has its end below.
        handles.with(op, || unsafe {
            result::stream::begin_capture(lane.stream, sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED)
        })?;
        /// Ends the capture where the work panics: other threads' work must not become part of it.
        struct End<'a>(Option<(&'a Handles, &'static str, sys::CUstream)>);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                if let Some((handles, op, stream)) = self.0.take() {
                    // SAFETY: as below; what was captured is thrown away.
                    let _ = handles.with(op, || unsafe {
                        let graph = result::stream::end_capture(stream)?;
                        if graph.is_null() { Ok(()) } else { result::graph::destroy(graph) }
                    });
                }
            }
        }
        let mut end = End(Some((handles, op, lane.stream)));
        let queued = work();
        end.0 = None;
        let mut invalid = false;
        // SAFETY: as above; the graph is destroyed once it is instantiated.
        let made = handles.with(op, || unsafe {
            let graph = result::stream::end_capture(lane.stream).inspect_err(|e| {
                invalid = e.0 == CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
            })?;
            if graph.is_null() {
                return Err(DriverError(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
            }
            let made = instantiate(graph);
            result::graph::destroy(graph).and(made)
        });
        match queued {
            // Libraries only say that they failed.
            Ok(()) | Err(Error::Unavailable { .. }) if invalid => Err(invalidated(op, handles.ordinal, queued.err())),
            queued => queued.and(made),
        }
    }

    /// Queues all of it on a lane.
    pub fn launch(&self, context: &Context, op: &'static str, lane: &Lane) -> Result<()> {
        // The gate comes before the handle's lock.
        context.handles.with(op, || {
            let _products = lane.products();
            // SAFETY: graph and stream live.
            unsafe { result::graph::launch(self.exec, lane.stream) }
        })
    }
}

/// What became of a capture that somebody ended, and which error of the work's came of it.
fn invalidated(op: &'static str, ordinal: usize, met: Option<Error>) -> Error {
    let met = match met {
        Some(Error::Unavailable { op, reason, .. }) => format!(" ({op}: {reason})"),
        _ => String::new(),
    };
    let reason = format!(
        "the capture was invalidated{met}: by a call that cannot be captured, or by any thread of the process that waited for the \
         whole device meanwhile (cudaDeviceSynchronize, cuCtxSynchronize)"
    );
    driver::unavailable(op, ordinal, reason)
}

/// # Safety
/// A graph that lives.
unsafe fn instantiate(graph: sys::CUgraph) -> Result<Graph, DriverError> {
    let mut nodes = 0;
    // SAFETY: the caller's promise; without a list the driver only counts.
    unsafe {
        sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut nodes).result()?;
        Ok(Graph { exec: result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0))?, nodes })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: nobody else has it; the driver keeps what still runs.
        let _ = unsafe { result::graph::exec_destroy(self.exec) };
    }
}

struct Entry {
    graph: Graph,
    last_used: u64,
}

/// Graphs of recurrent calls by all that such a call is made of, addresses among them: a loop that runs in the same memory again,
/// as the allocator has it in steady state, replays them.
#[derive(Default)]
pub struct Cache {
    graphs: HashMap<Vec<u64>, Entry>,
    /// Keys met once: a second time it is worth capturing.
    seen: HashSet<Vec<u64>>,
    nodes: usize,
    clock: u64,
    pause: Pause,
}

/// When captures are tried. One that fails may have been ended by another thread of the process, so the next will do; or the driver
/// refuses them all, and then trying costs as good as nothing: after `n` failures in a row the next 2ⁿ times are left out.
#[derive(Default)]
struct Pause {
    failures: u32,
    left: u32,
}

impl Pause {
    /// Whether to try this time.
    fn tries(&mut self) -> bool {
        let now = self.left == 0;
        self.left = self.left.saturating_sub(1);
        now
    }

    fn failed(&mut self) {
        self.failures = LONGEST_PAUSE.min(self.failures + 1);
        self.left = 1 << self.failures;
    }

    fn succeeded(&mut self) {
        *self = Pause::default();
    }
}

impl Cache {
    fn make_room(&mut self, nodes: usize) {
        while !self.graphs.is_empty() && (self.graphs.len() >= GRAPHS || self.nodes + nodes > NODES) {
            let oldest = self.graphs.iter().min_by_key(|(_, e)| e.last_used).map(|(key, _)| key.clone());
            if let Some(entry) = oldest.and_then(|key| self.graphs.remove(&key)) {
                self.nodes -= entry.graph.nodes;
            }
        }
    }
}

/// Runs a call: by its graph where there is one, capturing it when it comes the second time, plainly else, and plainly too where the
/// capture fails or what the key was made of holds no more (`fits`).
pub fn replay(
    context: &'static Context,
    op: &'static str,
    key: Vec<u64>,
    launches: usize,
    work: impl Fn() -> Result<()>,
    fits: impl Fn() -> bool,
) -> Result<()> {
    // Inside of a capture the call becomes a part of that.
    if launches > LONGEST || context.handles.is_alone() {
        return work();
    }
    let mut cache = context.graphs.lock().unwrap_or_else(|e| e.into_inner());
    cache.clock += 1;
    let clock = cache.clock;
    let lane = Lane::of(context, 0)?;
    if let Some(entry) = cache.graphs.get_mut(&key) {
        entry.last_used = clock;
        return entry.graph.launch(context, op, lane);
    }
    if !cache.seen.contains(&key) {
        if cache.seen.len() >= SEEN {
            cache.seen.clear();
        }
        cache.seen.insert(key);
        drop(cache);
        return work();
    }
    if !cache.pause.tries() {
        drop(cache);
        return work();
    }
    let captured = Graph::capture(context, op, || match fits() {
        true => work(),
        false => Err(Error::argument(op, "other modes than at first", "the modes of the key")),
    });
    match captured {
        Ok(graph) => {
            cache.pause.succeeded();
            cache.seen.remove(&key);
            cache.make_room(graph.nodes);
            let launched = graph.launch(context, op, lane);
            cache.nodes += graph.nodes;
            cache.graphs.insert(key, Entry { graph, last_used: clock });
            launched
        }
        Err(_) => {
            cache.pause.failed();
            drop(cache);
            work()
        }
    }
}

/// A step of a program's, captured: it runs again in the memory it was captured in, which is its own until this is dropped.
pub struct StepGraph {
    // Before the memory: fields are dropped in order.
    graph: Graph,
    context: &'static Context,
    _memory: OpenPool,
}

impl StepGraph {
    /// Captures what `step` queues, instead of running it.
    ///
    /// # Errors
    /// As [`Graph::capture`].
    pub fn capture<R>(
        context: &'static Context,
        op: &'static str,
        step: impl FnOnce() -> Result<R>,
    ) -> Result<(Self, R)> {
        let mut result = None;
        let memory = context.allocator.open_pool();
        let graph = memory.enter(|| {
            Graph::capture(context, op, || {
                result = Some(step()?);
                Ok(())
            })
        })?;
        match result {
            Some(result) => Ok((StepGraph { graph, context, _memory: memory }, result)),
            None => Err(driver::unavailable(op, context.handles.ordinal, "the capture did not run".into())),
        }
    }

    /// Queues the step.
    pub fn launch(&self, op: &'static str) -> Result<()> {
        let _together = self.context.together();
        self.graph.launch(self.context, op, Lane::of(self.context, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_that_fail_are_tried_again() {
        let mut pause = Pause::default();
        let tried = |pause: &mut Pause| (0..100).filter(|_| pause.tries()).count();
        assert_eq!(tried(&mut pause), 100);
        // Now and then, and ever more seldom.
        let mut at = Vec::new();
        for i in 0..40_000 {
            if pause.tries() {
                at.push(i);
                pause.failed();
            }
        }
        assert_eq!(at[..5], [0, 3, 8, 17, 34]);
        let gaps: Vec<i32> = at.windows(2).map(|w| w[1] - w[0]).collect();
        assert_eq!(gaps.iter().max(), Some(&((1 << LONGEST_PAUSE) + 1)));
        assert!(at.len() < 25, "{at:?}");
        while !pause.tries() {}
        pause.succeeded();
        assert_eq!(tried(&mut pause), 100);
    }
}
