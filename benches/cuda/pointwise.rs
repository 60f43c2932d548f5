//! The pointwise kernels of the steps alone, beside a copy of device memory.

use gatefold::{
    DType, Device,
    recurrent::{Algorithm, Backward, Buf, Cell, Forward, Plan, Sequence},
};

use super::{
    gpu::{Gpu, Memory, Result},
    grid::{CELLS, Case, Precision},
    timer::{Key, Timer},
};

/// (B, H, T): the steps of real networks, which stay in the L2, and one too large for it.
const SIZES: [(usize, usize, usize); 4] = [(64, 512, 64), (64, 1024, 64), (256, 1024, 32), (16384, 1024, 4)];
const SMOKE: [(usize, usize, usize); 1] = [(3, 8, 4)];

pub fn cases(smoke: bool) -> Vec<Case> {
    let sizes: &[_] = if smoke { &SMOKE } else { &SIZES };
    let mut cases = Vec::new();
    for cell in CELLS {
        for precision in [Precision::F32, Precision::BF16] {
            cases.extend(sizes.iter().map(|&(batch, hidden, seq)| Case { cell, precision, batch, hidden, seq }));
        }
    }
    cases
}

/// Bytes that a step's kernel reads and writes for each unit, each once: `(forward in training, backward)`. f32 around halves.
fn bytes(case: &Case) -> (usize, usize) {
    let t = case.precision.dtype().size();
    const C: usize = DType::F32.size();
    match case.cell.1 {
        // Forward: pre-activations in, gates out; c in and out; h out. Backward: gates in and out, c twice, dy, dh, dc in and out.
        Cell::Lstm => (4 * C + 4 * t + 2 * C + t, 8 * t + 2 * C + t + C + 2 * C),
        // Three pre-activations and three parts of h W_hh in, four gates out; h in and out. Backward: dh in and out too.
        Cell::Gru => (6 * C + 4 * t + 2 * t, 8 * t + t + t + 2 * C),
        _ => (C + t + t, 2 * t + t + C),
    }
}

/// All steps of a sequence, without their matrix products, replayed as a graph.
pub fn measure(timer: &mut Timer<'_>, case: &Case) -> Result<()> {
    let gpu = timer.gpu;
    let told = |e: gatefold::Error| e.to_string();
    let plan = Plan::new(&case.descriptor(), case.shape(), &Device::Cuda(0))
        .and_then(|plan| plan.algorithm(Algorithm::Stepwise))
        .map_err(told)?
        .without_products();
    let dtype = case.precision.dtype();
    let (states, rows) = (case.batch * case.hidden, case.seq * case.batch * case.hidden);
    let random = |len, dtype, seed| gpu.random(len, dtype, 0.5, seed);
    let (x, dy, y) = (random(rows, dtype, 1)?, random(rows, dtype, 2)?, gpu.memory(rows, dtype)?);
    let (hn, cn) = (gpu.memory(states, dtype)?, gpu.memory(states, dtype)?);
    // What products would have left there.
    let (workspace, reserve) =
        (random(plan.workspace_len(), DType::F32, 3)?, random(plan.reserve_len(), DType::F32, 4)?);
    let weights: Vec<Memory> =
        case.descriptor().parameters().iter().map(|s| random(s.numel(), dtype, 5)).collect::<Result<_>>()?;
    let parameters: Vec<Buf<'_>> = weights.iter().map(|w| w.buf().into()).collect();
    let forward = || {
        let call = Forward {
            x: x.buf().into(),
            h0: None,
            c0: None,
            parameters: &parameters,
            sequence: Sequence::Full,
            y: y.buf().into(),
            hn: hn.buf().into(),
            cn: case.cell.1.has_cell_state().then(|| cn.buf().into()),
            dropout_seed: 0,
            workspace: workspace.buf().into(),
            reserve: Some(reserve.buf().into()),
        };
        plan.forward(&gpu.stream(), call).map_err(told)
    };
    let backward = || {
        let call = Backward {
            x: x.buf().into(),
            h0: None,
            c0: None,
            parameters: &parameters,
            sequence: Sequence::Full,
            dy: Some(dy.buf().into()),
            dhn: None,
            dcn: None,
            dx: None,
            dh0: None,
            dc0: None,
            dparameters: &mut [],
            accumulate: false,
            dropout_seed: 0,
            workspace: workspace.buf().into(),
            reserve: reserve.buf().into(),
        };
        plan.backward(&gpu.stream(), call).map_err(told)
    };
    let (in_forward, in_backward) = bytes(case);
    let key = |mode, per_unit| Key::of(case, "pointwise", "gatefold", mode).bytes((rows * per_unit) as u64);
    timer.gpu_time(key("training", in_forward), forward)?;
    timer.gpu_time(key("backward", in_backward), backward)
}

/// A copy from device memory to device memory: what moving so many bytes takes at least.
pub fn copy(timer: &mut Timer<'_>, bytes: usize) -> Result<()> {
    let gpu: &Gpu = timer.gpu;
    let (from, to) = (gpu.random(bytes / 4, DType::F32, 1.0, 6)?, gpu.bytes(bytes)?);
    let key = Key::new("copy", "driver", format!("{} MiB", bytes >> 20)).bytes(2 * bytes as u64);
    // SAFETY: both stretches have as many bytes, and live until the stream was waited for.
    timer.gpu_time(key, || unsafe { gpu.copy(from.address, to.address, bytes / 4 * 4) })
}
