//! `kernels/abi.h` in Rust: the structs that kernels take, by value, and the file that each one's kernels are in.

mod bindings;
pub use bindings::*;

/// What a kernel takes: plain memory, of a layout that the kernels share.
pub trait Parameters: bytemuck::Pod {
    /// The file under `kernels/` that its kernels are in.
    const FILE: &'static str;
}

macro_rules! files {
    ($($file:literal: $($name:ident),*;)*) => {
        $($(
            // Beyond 4 KiB no kernel takes it.
            const _: () = assert!(size_of::<$name>() <= 4096);
            impl Default for $name {
                fn default() -> Self {
                    bytemuck::Zeroable::zeroed()
                }
            }
            impl Parameters for $name {
                const FILE: &'static str = $file;
            }
        )*)*
    };
}

files! {
    "elementwise": Unary, UnaryBackward, Binary, Select, Axpy;
    "memory": Fill, Cast, CopyStrided;
    "reduce": Reduce, ArgMax, TopK, ScatterAxis;
    "softmax": Softmax, SoftmaxBackward;
    "index": Gather, TakeAlong, SortKeys, SortPass, ScatterRows;
    "random": Dropout, DrawMasks, Uniform;
    "loss": PointwiseLoss, PointwiseLossBackward, ClassLoss, ClassLossBackward;
    "optimizer": Sgd, Adam, RmsProp, Adagrad, Advance, Unscale, UpdateScale;
    "clip": NormParts, NormJoin, Scale, Clamp;
    "recurrent": RecurrentRows, RecurrentStates, RecurrentBias, RecurrentPrevious, RecurrentSums,
        RecurrentPeephole, RecurrentTotals, RecurrentProjected, PersistentExchange;
    "step": RecurrentStep, RecurrentStepBackward;
    "persistent_forward": PersistentForward;
    "persistent_backward": PersistentBackward;
}

/// The same structs, of the kernels in clusters.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub struct InCluster<P>(pub P);

impl Parameters for InCluster<PersistentForward> {
    const FILE: &'static str = "persistent_forward_cluster";
}

impl Parameters for InCluster<PersistentBackward> {
    const FILE: &'static str = "persistent_backward_cluster";
}

/// The same structs, of the kernels whose steps have two products.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
pub struct Twice<P>(pub P);

impl Parameters for Twice<PersistentForward> {
    const FILE: &'static str = "persistent_forward_two";
}

impl Parameters for Twice<PersistentBackward> {
    const FILE: &'static str = "persistent_backward_two";
}

/// A part of the persistent kernels' structs.
impl Default for PersistentPass {
    fn default() -> Self {
        bytemuck::Zeroable::zeroed()
    }
}
