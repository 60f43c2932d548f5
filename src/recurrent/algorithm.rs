//! Which algorithm runs a plan on a GPU: a pure function of network, extents and device.

use std::fmt;

use super::{Descriptor, Exchange, PersistentPlan, Shape, Tiling};
use crate::error::Error;

pub(super) const OP: &str = "recurrent algorithm";

/// How a layer's steps are run on a GPU. The CPU has one way of its own.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// What [`choose`] says.
    #[default]
    Auto,
    /// A product and a pointwise kernel for each step, whatever the sizes.
    Stepwise,
    /// One launch for all steps of a layer, the recurrent weights kept in shared memory: as fast as blocks exchange states, and only
    /// for networks whose weights fit ([`PersistentPlan`]).
    Persistent,
    /// The same, with states and gradients exchanged in that way, whatever the model says.
    PersistentBy(Exchange),
}

/// What a GPU has, as far as the choice depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceProperties {
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Compute capability, major and minor.
    pub capability: (u32, u32),
    /// Bytes of shared memory that a block may ask for.
    pub shared_per_block: usize,
    /// 32-bit registers of a multiprocessor.
    pub registers: usize,
    /// Whether all blocks of a launch can be promised to run at once.
    pub cooperative: bool,
    /// How many clusters of 1, 2, 4, 8 and 16 blocks run at once where a block has a multiprocessor to itself; zeros without clusters. A
    /// cluster lies within one group of multiprocessors, so they are fewer than would fit by number.
    pub clusters: [usize; 5],
}

/// What the driver of an H200 said, and of an H100 of sixteen.
const HOPPER: [usize; 5] = [132, 66, 30, 15, 7];

impl DeviceProperties {
    /// H200 (SXM).
    pub const H200: Self = Self::new(132, (9, 0), 227, HOPPER);
    /// H100 (SXM).
    pub const H100: Self = Self::new(132, (9, 0), 227, HOPPER);
    /// A100, of either memory size.
    pub const A100: Self = Self::new(108, (8, 0), 163, [0; 5]);
    /// L4.
    pub const L4: Self = Self::new(58, (8, 9), 99, [0; 5]);
    /// T4.
    pub const T4: Self = Self::new(40, (7, 5), 64, [0; 5]);
    /// GeForce RTX 4090.
    pub const RTX_4090: Self = Self::new(128, (8, 9), 99, [0; 5]);

    const fn new(
        multiprocessors: usize,
        capability: (u32, u32),
        shared_kilobytes: usize,
        clusters: [usize; 5],
    ) -> Self {
        DeviceProperties {
            multiprocessors,
            capability,
            shared_per_block: shared_kilobytes << 10,
            registers: 65536,
            cooperative: true,
            clusters,
        }
    }

    /// Blocks of a cluster at most.
    pub(super) fn cluster_blocks(&self) -> usize {
        self.clusters.iter().rposition(|&room| room > 0).map_or(0, |size| 1 << size)
    }
}

/// What runs, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Step by step.
    Stepwise {
        /// Why not otherwise.
        reason: String,
    },
    /// All steps in one launch: forward, and where `backward` says so backward.
    Persistent {
        /// How the work is divided.
        plan: Box<PersistentPlan>,
        /// Whether backward too; else that goes step by step.
        backward: bool,
        /// Why.
        reason: String,
    },
}

impl Choice {
    /// [`Algorithm::Stepwise`] or [`Algorithm::Persistent`].
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Choice::Stepwise { .. } => Algorithm::Stepwise,
            Choice::Persistent { .. } => Algorithm::Persistent,
        }
    }

    /// Why it was chosen.
    pub fn reason(&self) -> &str {
        match self {
            Choice::Stepwise { reason } | Choice::Persistent { reason, .. } => reason,
        }
    }

    /// How the steps of a pass are divided, where they are one launch.
    #[cfg(feature = "cuda")]
    pub(super) fn tiling(&self, of_backward: bool) -> Option<Tiling> {
        match self {
            Choice::Persistent { plan, .. } if !of_backward => Some(plan.forward),
            Choice::Persistent { plan, backward: true, .. } => Some(plan.backward),
            _ => None,
        }
    }

    /// The persistent plan that was chosen.
    pub fn persistent(&self) -> Option<&PersistentPlan> {
        match self {
            Choice::Stepwise { .. } => None,
            Choice::Persistent { plan, .. } => Some(plan),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Stepwise { reason } => write!(f, "stepwise: {reason}"),
            Choice::Persistent { plan, backward, reason } => {
                let only = if *backward { "" } else { " forward, stepwise backward" };
                write!(f, "persistent{only}: {reason}\n{plan}")
            }
        }
    }
}

/// The algorithm of [`Algorithm::Auto`].
///
/// Persistent where it fits ([`PersistentPlan::fit`]), there is more than one step, and a model of latencies and bandwidths says that
/// it wins: forward, or forward and backward, for a step backward exchanges more. Where layers run side by side it is their share of a
/// step that is compared. An H100 has given the model its figures; of other devices it is a guess.
pub fn choose(descriptor: &Descriptor, shape: Shape, device: &DeviceProperties) -> Choice {
    let stepwise = |reason: String| Choice::Stepwise { reason };
    if shape.seq < 2 {
        return stepwise("a single step has nothing to keep weights for".into());
    }
    let plan = match PersistentPlan::fit(descriptor, shape, device) {
        Ok(plan) => plan,
        Err(Error::Unavailable { reason, .. }) => return stepwise(reason),
        Err(e) => return stepwise(e.to_string()),
    };
    let wins = |t: &Tiling| t.layer_cycles < t.stepwise_cycles;
    let says =
        |name, t: &Tiling| format!("{} cycles a step {name} and {} step by step", t.layer_cycles, t.stepwise_cycles);
    let both = format!("{}, {}", says("forward", &plan.forward), says("backward", &plan.backward));
    let reason = format!("the model says {both}");
    if wins(&plan.forward) {
        Choice::Persistent { backward: wins(&plan.backward), plan: plan.into(), reason }
    } else {
        stepwise(reason)
    }
}
