//! Who computes the same network over the same memory, and whether they agree.

use std::collections::BTreeMap;

use gatefold::{
    DType, Device, Philox,
    recurrent::{Algorithm, Backward, Buf, BufMut, Exchange, Forward, Plan, Sequence},
};

use super::{
    cudnn,
    gpu::{Gpu, Memory, Result},
    grid::Case,
};

/// Why a contender does not run.
pub enum Stop {
    /// It does not do this network here, and says so with a status.
    Refused(String),
    Failed(String),
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Stop::Failed(what)
    }
}

pub type Made<'a> = std::result::Result<Box<dyn Contender + 'a>, Stop>;
type Make = for<'a> fn(&'a Gpu, &'a Case, &'a Memories) -> Made<'a>;

/// The contenders. The first is the one that the others' results are compared with.
pub const CONTENDERS: &[(&str, Make)] = &[
    ("gatefold stepwise", |gpu, case, memories| {
        gatefold(gpu, case, memories, |plan| Ok(plan.algorithm(Algorithm::Stepwise)?.graphs(false)))
    }),
    ("gatefold graph", |gpu, case, memories| {
        gatefold(gpu, case, memories, |plan| Ok(plan.algorithm(Algorithm::Stepwise)?.graphs(true)))
    }),
    ("gatefold persistent", |gpu, case, memories| {
        gatefold(gpu, case, memories, |plan| plan.algorithm(Algorithm::Persistent))
    }),
    ("gatefold persistent memory", |gpu, case, memories| {
        gatefold(gpu, case, memories, |plan| plan.algorithm(Algorithm::PersistentBy(Exchange::Memory)))
    }),
    ("gatefold persistent cluster", |gpu, case, memories| {
        gatefold(gpu, case, memories, |plan| plan.algorithm(Algorithm::PersistentBy(Exchange::Cluster)))
    }),
    ("gatefold tune F1,16,16", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_FORWARD", "1,16,16")),
    ("gatefold tune F1,16,32", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_FORWARD", "1,16,32")),
    ("gatefold tune B1,16,16", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "1,16,16")),
    ("gatefold tune B1,32,8", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "1,32,8")),
    ("gatefold tune B2,16,8", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "2,16,8")),
    ("gatefold tune B2,16,16", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "2,16,16")),
    ("gatefold tune B2,32,8", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "2,32,8")),
    ("gatefold tune B4,16,8", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "4,16,8")),
    ("gatefold tune B4,16,16", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "4,16,16")),
    ("gatefold tune B4,32,8", |gpu, case, memories| tuned(gpu, case, memories, "GATEFOLD_TUNE_BACKWARD", "4,32,8")),
    ("cuDNN standard", |gpu, case, memories| cudnn::make(gpu, case, memories, cudnn::Algorithm::Standard)),
    ("cuDNN standard graph", |gpu, case, memories| {
        cudnn::make_captured(gpu, case, memories, cudnn::Algorithm::Standard)
    }),
    ("cuDNN persist static", |gpu, case, memories| cudnn::make(gpu, case, memories, cudnn::Algorithm::PersistStatic)),
    ("cuDNN persist static graph", |gpu, case, memories| {
        cudnn::make_captured(gpu, case, memories, cudnn::Algorithm::PersistStatic)
    }),
    ("cuDNN persist dynamic", |gpu, case, memories| cudnn::make(gpu, case, memories, cudnn::Algorithm::PersistDynamic)),
    ("cuDNN persist static small h", |gpu, case, memories| {
        cudnn::make(gpu, case, memories, cudnn::Algorithm::PersistStaticSmallH)
    }),
];

/// Everything is queued on the GPU's stream.
pub trait Contender {
    /// y, hn and cn; in training also what the backward pass needs.
    fn forward(&mut self, training: bool) -> std::result::Result<(), Stop>;
    /// dx and the gradients of the weights, not added to what was there before. After a forward pass in training.
    fn backward(&mut self) -> std::result::Result<(), Stop>;
    /// Brings the gradients of the weights to where the others leave them.
    fn gather_gradients(&mut self) -> std::result::Result<(), Stop> {
        Ok(())
    }
}

/// What all contenders read and write.
pub struct Memories {
    pub x: Memory,
    /// In the order of `Descriptor::parameters`.
    pub parameters: Vec<Memory>,
    pub dy: Memory,
    pub y: Memory,
    pub hn: Memory,
    pub cn: Option<Memory>,
    pub dx: Memory,
    pub dparameters: Vec<Memory>,
}

impl Memories {
    pub fn new(gpu: &Gpu, case: &Case) -> Result<Memories> {
        let (descriptor, dtype) = (case.descriptor(), case.precision.dtype());
        let (states, rows) = (case.batch * case.hidden, case.seq * case.batch * case.hidden);
        let mut seed = Philox::seed(case.flops());
        // As PyTorch begins: uniform up to 1/√H.
        let scale = 1.0 / (case.hidden as f32).sqrt();
        let specs = descriptor.parameters();
        let parameters =
            specs.iter().map(|s| gpu.random(s.numel(), dtype, scale, seed.split())).collect::<Result<_>>()?;
        Ok(Memories {
            x: gpu.random(rows, dtype, 1.0, seed.split())?,
            parameters,
            dy: gpu.random(rows, dtype, 1.0, seed.split())?,
            y: gpu.memory(rows, dtype)?,
            hn: gpu.memory(states, dtype)?,
            cn: descriptor.cell.has_cell_state().then(|| gpu.memory(states, dtype)).transpose()?,
            dx: gpu.memory(rows, dtype)?,
            dparameters: specs.iter().map(|s| gpu.memory(s.numel(), dtype)).collect::<Result<_>>()?,
        })
    }

    fn results(&self) -> Vec<(&'static str, &Memory)> {
        let mut results = vec![("y", &self.y), ("hn", &self.hn), ("dx", &self.dx)];
        results.extend(self.cn.iter().map(|cn| ("cn", cn)));
        let names = ["dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh"];
        results.extend(names.into_iter().zip(&self.dparameters));
        results
    }

    /// What a contender leaves where there was nothing but NaNs: in inference, and after a whole training pass.
    pub fn results_of(&self, gpu: &Gpu, contender: &mut dyn Contender) -> std::result::Result<Results, Stop> {
        let mut results = Results::new();
        self.results().into_iter().try_for_each(|(_, memory)| gpu.poison(memory))?;
        contender.forward(false)?;
        for (name, memory) in self.results().into_iter().filter(|(name, _)| ["y", "hn", "cn"].contains(name)) {
            results.insert(format!("{name} in inference"), gpu.download(memory)?);
        }
        // Twice, and the second counts: a graph is captured when a call comes again, and nothing may be left of the first.
        for _ in 0..2 {
            self.results().into_iter().try_for_each(|(_, memory)| gpu.poison(memory))?;
            contender.forward(true)?;
            contender.backward()?;
            contender.gather_gradients()?;
        }
        for (name, memory) in self.results() {
            results.insert(name.into(), gpu.download(memory)?);
        }
        Ok(results)
    }
}

pub type Results = BTreeMap<String, Vec<f32>>;

/// The greatest ‖a − b‖ / ‖b‖ over all results, and of which.
pub fn difference(a: &Results, b: &Results) -> (f64, String) {
    let mut worst = (0.0, String::new());
    for (name, want) in b {
        let (mut apart, mut norm) = (0f64, 0f64);
        for (&a, &b) in a[name].iter().zip(want) {
            apart += f64::from(a - b).powi(2);
            norm += f64::from(b).powi(2);
        }
        // Zeros agree with zeros only; a NaN with nothing.
        let relative = if apart == 0.0 { 0.0 } else { (apart / norm).sqrt() };
        if relative.is_nan() || relative > worst.0 {
            worst = (if relative.is_nan() { f64::INFINITY } else { relative }, name.clone());
        }
    }
    worst
}

/// gatefold's raw layer.
struct Gatefold<'a> {
    gpu: &'a Gpu,
    memories: &'a Memories,
    plan: Plan,
    workspace: Memory,
    reserve: Memory,
}

fn gatefold<'a>(
    gpu: &'a Gpu,
    case: &Case,
    memories: &'a Memories,
    adjust: impl Fn(Plan) -> gatefold::Result<Plan>,
) -> Made<'a> {
    let told = |e: gatefold::Error| Stop::Failed(e.to_string());
    Device::Cuda(0).allow_tf32(case.precision == super::grid::Precision::Tf32).map_err(told)?;
    let plan = Plan::new(&case.descriptor(), case.shape(), &Device::Cuda(0)).map_err(told)?;
    let plan = adjust(plan).map_err(|e| match e {
        gatefold::Error::Unavailable { reason, .. } => Stop::Refused(reason),
        other => told(other),
    })?;
    let workspace = gpu.memory(plan.workspace_len(), DType::F32)?;
    let reserve = gpu.memory(plan.reserve_len(), DType::F32)?;
    Ok(Box::new(Gatefold { gpu, memories, plan, workspace, reserve }))
}

impl Gatefold<'_> {
    fn parameters(&self) -> Vec<Buf<'_>> {
        self.memories.parameters.iter().map(|p| p.buf().into()).collect()
    }
}

impl Contender for Gatefold<'_> {
    fn forward(&mut self, training: bool) -> std::result::Result<(), Stop> {
        let m = self.memories;
        let call = Forward {
            x: m.x.buf().into(),
            h0: None,
            c0: None,
            parameters: &self.parameters(),
            sequence: Sequence::Full,
            y: m.y.buf().into(),
            hn: m.hn.buf().into(),
            cn: m.cn.as_ref().map(|cn| cn.buf().into()),
            dropout_seed: 0,
            workspace: self.workspace.buf().into(),
            reserve: training.then(|| self.reserve.buf().into()),
        };
        self.plan.forward(&self.gpu.stream(), call).map_err(|e| Stop::Failed(e.to_string()))
    }

    fn backward(&mut self) -> std::result::Result<(), Stop> {
        let m = self.memories;
        let mut wanted: Vec<Option<BufMut<'_>>> = m.dparameters.iter().map(|d| Some(d.buf().into())).collect();
        let call = Backward {
            x: m.x.buf().into(),
            h0: None,
            c0: None,
            parameters: &self.parameters(),
            sequence: Sequence::Full,
            dy: Some(m.dy.buf().into()),
            dhn: None,
            dcn: None,
            dx: Some(m.dx.buf().into()),
            dh0: None,
            dc0: None,
            dparameters: &mut wanted,
            accumulate: false,
            dropout_seed: 0,
            workspace: self.workspace.buf().into(),
            reserve: self.reserve.buf().into(),
        };
        self.plan.backward(&self.gpu.stream(), call).map_err(|e| Stop::Failed(e.to_string()))
    }
}

fn tuned<'a>(gpu: &'a Gpu, case: &'a Case, memories: &'a Memories, name: &str, value: &str) -> Made<'a> {
    let n: Vec<usize> = value.split(',').map(|n| n.parse().unwrap()).collect();
    gatefold(gpu, case, memories, |plan| {
        plan.algorithm(Algorithm::PersistentBy(Exchange::Memory))?
            .divided(name.ends_with("BACKWARD"), [n[1], n[2], n[0]])
    })
}
