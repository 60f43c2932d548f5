//! What a recurrent layer launches: its own kernels and products over parts of memory, on the lanes of one device.

use std::{
    ffi::c_void,
    sync::{MutexGuard, atomic::Ordering},
};

pub use super::driver::Together;
use super::{
    Cuda, abi,
    blas::{self, Rows},
    context::Context,
    driver::{Address, Limits},
    graph,
    lane::{self, LANES},
    launch::{Grid, bits, suffix},
};
use crate::{capture, dtype::DType, error::Result, kernel::Gemm};
pub use abi::{
    CELL_GRU, CELL_GRU_RESET_BEFORE, CELL_LSTM, CELL_LSTM_PEEPHOLE, CELL_RNN_RELU, CELL_RNN_TANH, InCluster,
    Parameters, PersistentBackward, PersistentExchange, PersistentForward, PersistentPass, RecurrentBias,
    RecurrentPeephole, RecurrentPrevious, RecurrentProjected, RecurrentRows, RecurrentStates, RecurrentStep,
    RecurrentStepBackward, RecurrentSums, RecurrentTotals, Twice,
};

const OP: &str = "recurrent";

/// The last lane: whatever nobody waits for until the end.
pub const ASIDE: usize = LANES - 1;

/// A matrix in device memory: where it begins, elements from a row to the next, and whether it is read transposed.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    pub at: Address,
    pub row: usize,
    pub transposed: bool,
}

impl Matrix {
    pub fn new(at: Address, row: usize) -> Self {
        Matrix { at, row, transposed: false }
    }

    pub fn t(self) -> Self {
        Matrix { transposed: !self.transposed, ..self }
    }
}

impl Cuda {
    /// A lane; 0 is the device's stream.
    pub fn lane(self, index: usize) -> Result<Lane> {
        lane::Lane::of(self.0, index).map(|lane| Lane { context: self.0, lane })
    }

    /// Runs what `work` queues, of about that many launches, or replays the graph of an equal call; see [`graph::replay`].
    pub fn replay(self, key: Vec<u64>, (launches, modes): (usize, u64), work: impl Fn() -> Result<()>) -> Result<()> {
        // Another thread may have changed them since they went into the key.
        graph::replay(self.0, OP, key, launches, work, || self.modes() == modes)
    }

    /// While this is held nobody else queues launches whose blocks wait for each other: see [`Context::together`].
    pub fn together(self) -> Option<MutexGuard<'static, ()>> {
        self.0.together()
    }

    /// What a call's launches depend on beside the call itself.
    pub fn modes(self) -> u64 {
        u64::from(self.0.tf32.load(Ordering::Relaxed))
    }

    /// Whether graphs may be used.
    pub fn replays(self) -> bool {
        self.0.replay.load(Ordering::Relaxed)
    }

    /// Whether all steps of a layer may be one launch.
    pub fn persistent(self) -> bool {
        self.0.persistent.load(Ordering::Relaxed)
    }

    /// Whether f32 products may use TF32.
    pub fn tf32(self) -> bool {
        self.0.tf32.load(Ordering::Relaxed)
    }

    /// Multiprocessors and compute capability.
    pub fn size(self) -> (usize, (i32, i32)) {
        (self.0.handles.multiprocessors as usize, self.0.handles.capability)
    }

    /// What launches whose blocks wait for each other depend on.
    pub fn limits(self) -> Limits {
        self.0.handles.limits
    }

    /// How many blocks of such a kernel the device has room for at once.
    pub fn resident<P: Parameters>(
        self,
        name: &'static str,
        dtype: DType,
        threads: usize,
        shared: usize,
    ) -> Result<usize> {
        self.0.resident::<P>(name, suffix(dtype), threads as u32, shared)
    }

    /// How many clusters of `blocks` of such a kernel the device has room for at once.
    pub fn clusters<P: Parameters>(
        self,
        name: &'static str,
        dtype: DType,
        threads: usize,
        shared: usize,
        blocks: usize,
    ) -> Result<usize> {
        self.0.clusters::<P>(name, suffix(dtype), threads as u32, shared, blocks as u32)
    }

    /// How a sum over `rows` of `width` columns is divided: rows to a part. A function of the shape alone.
    pub fn sum_part(rows: usize, width: usize) -> usize {
        let parts = rows.div_ceil(256).min(SUM_TASKS / width.div_ceil(32)).max(1);
        rows.div_ceil(parts)
    }

    /// Numbers that the parts of such a sum take at most.
    pub fn sum_space(width: usize) -> usize {
        (SUM_TASKS * 32).max(width)
    }
}

/// Blocks that share a sum over rows, at most.
const SUM_TASKS: usize = 512;

/// A stream of a device, on which a call queues its work.
#[derive(Clone, Copy)]
pub struct Lane {
    context: &'static Context,
    lane: &'static lane::Lane,
}

/// Operations on device memory by address: every one is queued and returns. Callers own the memory, or have it lent until the
/// work has passed, and order the lanes that touch it.
impl Lane {
    /// What is queued here from now on waits for what is on `other` now.
    pub fn wait_for(self, other: Lane) -> Result<()> {
        self.lane.wait_for(self.context, other.lane)
    }

    /// Waits for a stream of the caller's.
    ///
    /// # Safety
    /// It is a stream of this device.
    pub unsafe fn wait_for_callers(self, stream: *mut c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.lane.wait_for_callers(self.context, stream.cast()) }
    }

    /// Makes a stream of the caller's wait.
    ///
    /// # Safety
    /// It is a stream of this device.
    pub unsafe fn release_callers(self, stream: *mut c_void) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.lane.release_callers(self.context, stream.cast()) }
    }

    /// c = a × b (+ c with `add`): m × k times k × n, a and b of one dtype, c of the same or a wider one.
    pub fn multiply(
        self,
        dtypes: (DType, DType),
        (m, n, k): (usize, usize, usize),
        a: Matrix,
        b: Matrix,
        c: Matrix,
        add: bool,
    ) -> Result<()> {
        let beta = if add { 1.0 } else { 0.0 };
        let (trans_a, trans_b) = (a.transposed, b.transposed);
        let g = Gemm { batch: 1, m, n, k, trans_a, trans_b, stride_a: 0, stride_b: 0, alpha: 1.0, beta };
        blas::product(self.context, self.lane, dtypes, &g, Rows { a: a.row, b: b.row, c: c.row }, [a.at, b.at, c.at])
    }

    /// A kernel of that dtype with a thread for each of `items`.
    pub fn launch<P: Parameters>(self, name: &'static str, dtype: DType, items: usize, parameters: &P) -> Result<()> {
        let grid = self.context.spread_thin(items);
        self.context.launch_on(self.lane.stream, name, suffix(dtype), &grid, parameters)
    }

    /// A kernel whose blocks wait for each other or are clusters: so many of so many threads and bytes of shared memory.
    pub fn launch_together<P: Parameters>(
        self,
        name: &'static str,
        dtype: DType,
        (blocks, threads, shared): (usize, usize, usize),
        together: Together,
        parameters: &P,
    ) -> Result<()> {
        let grid = Grid { blocks: blocks as u32, threads: (threads as u32, 1), shared: shared as u32 };
        self.context.launch_together(self.lane.stream, name, suffix(dtype), &grid, together, parameters)
    }

    /// Rows moved from the caller's order, or with `out` to it.
    pub fn move_rows(self, out: bool, dtype: DType, mut p: RecurrentRows) -> Result<()> {
        let vector = 16 / dtype.size() as u64;
        p.vector = u64::from(p.width.is_multiple_of(vector) && [p.from, p.to].iter().all(|a| a.is_multiple_of(16)));
        let items = p.rows * p.width / if p.vector == 1 { vector } else { 1 };
        let name = if out { "rows_out" } else { "rows_in" };
        self.context.launch_on(self.lane.stream, name, bits(dtype), &self.context.spread(items as usize), &p)
    }

    /// A kernel that sums over the rows of parts, 32 columns to a block.
    pub fn sum<P: Parameters>(
        self,
        name: &'static str,
        dtype: DType,
        (parts, width): (usize, usize),
        p: &P,
    ) -> Result<()> {
        let grid = self.context.blocks(parts * width.div_ceil(32), (32, 8), 32 * 8 * 8);
        self.context.launch_on(self.lane.stream, name, suffix(dtype), &grid, p)
    }

    /// Elements `first..first + count` of `from`, dropped out into those of `to`, by the seed in device memory at `seed_at`.
    pub fn drop_out(
        self,
        dtype: DType,
        (seed_at, stream, p): (Address, u64, f64),
        (from, to): (Address, Address),
        (first, count): (usize, usize),
    ) -> Result<()> {
        if p >= 1.0 {
            return self.clear(to + (first * dtype.size()) as u64, count * dtype.size());
        }
        let scale = 1.0 / (1.0 - p);
        let (first, count) = (first as u64, count as u64);
        let parameters =
            abi::Dropout { x: from, y: to, first, count, seed: 0, seed_at, stream, stream_at: 0, p, scale };
        let grid = self.context.spread(count.div_ceil(4) as usize + 1);
        self.context.launch_on(self.lane.stream, "dropout", suffix(dtype), &grid, &parameters)
    }

    /// Where the work of a call finds the seed of its masks: brought to `to`, on lane 0, or of a captured step where its replays draw it.
    pub fn seed(self, to: Address, seed: u64) -> Result<Address> {
        if let Some(drawn) = capture::drawn_at(OP, seed, 0)? {
            return Ok(drawn);
        }
        self.context.handles.set_words(OP, to, &[seed as u32, (seed >> 32) as u32])?;
        Ok(to)
    }

    /// Zero bytes.
    pub fn clear(self, to: Address, bytes: usize) -> Result<()> {
        self.context.handles.set_bytes_on(OP, self.lane.stream, to, 0, bytes)
    }

    /// Bytes from one stretch to another.
    pub fn copy(self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.context.handles.copy_on(OP, self.lane.stream, from, to, bytes)
    }

    /// Small tables of the host's; on lane 0.
    pub fn upload(self, numbers: &[i64], to: Address) -> Result<()> {
        debug_assert!(self.lane.stream == self.context.handles.stream);
        self.context.staging.upload(&self.context.handles, OP, bytemuck::cast_slice(numbers), to)
    }
}
