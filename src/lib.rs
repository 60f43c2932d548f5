//! Recurrent networks (RNN, LSTM, GRU) with hand-written kernels, a small reverse-mode tape and optimizers.
//!
//! Names, shapes and numbers are PyTorch's. [`nn`] has the modules, [`loss`] and [`optim`] what trains them, [`data`] and [`train`] what
//! a program needs around that; [`recurrent`] is the layer below, for those who bring their own memory.
//!
//! ```
//! use gatefold::{Device, Philox, Tape, Tensor, nn::{Linear, Lstm}, optim::Adam};
//! let (device, mut rng) = (Device::best(), Philox::seed(1));
//! let lstm = Lstm::new(8, 16).num_layers(2).bidirectional(true).init(&device, &mut rng)?;
//! let out = Linear::new(32, 3).init(&device, &mut rng)?;
//! let mut optimizer = Adam::new(1e-2).over([&lstm as &dyn gatefold::HasParameters, &out])?;
//!
//! let x = Tensor::normal([5, 4, 8], 0.0, 1.0, gatefold::DType::F32, &device, &mut rng)?; // (T, B, features)
//! let classes = Tensor::new([0i64, 1, 2, 0], &device)?;
//! let mut losses = Vec::new();
//! for _ in 0..20 {
//!     let (states, _last) = lstm.forward(&Tape::new().constant(x.clone()), None)?;
//!     let loss = out.forward(&states.select(0, -1)?)?.cross_entropy(&classes)?;
//!     optimizer.zero_grad();
//!     loss.backward()?;
//!     optimizer.step()?;
//!     losses.push(loss.item()?);
//! }
//! assert!(losses[19] < 0.5 * losses[0]);
//! # Ok::<(), gatefold::Error>(())
//! ```
#![deny(missing_docs, unsafe_code)]

mod capture;
mod cell;
pub mod device;
pub mod dtype;
pub mod error;
mod file;
mod kernel;
pub mod rng;
pub mod shape;

#[allow(unsafe_code, reason = "a backend: vector instructions and raw memory, each block with its reason")]
mod cpu;
#[cfg(feature = "cuda")]
#[allow(unsafe_code, reason = "a backend: calls into the driver, each block with its reason")]
mod cuda;
mod shared;
mod storage;

/// Recurrent networks for those who bring their own memory and framework: described, planned, run forward and backward.
///
/// ```
/// use gatefold::Device;
/// use gatefold::recurrent::{Backward, Buf, BufMut, Cell, Descriptor, Forward, Plan, Sequence, Shape, Stream};
/// let descriptor = Descriptor::new(Cell::Lstm, 3, 4);
/// let plan = Plan::new(&descriptor, Shape { seq: 5, batch: 2 }, &Device::Cpu)?;
/// let parameters: Vec<Vec<f32>> = descriptor.parameters().iter().map(|spec| vec![0.1; spec.numel()]).collect();
/// let parameters: Vec<Buf<'_>> = parameters.iter().map(Buf::from).collect();
///
/// let x = vec![1.0f32; 5 * 2 * 3]; // (T, B, I)
/// let (mut y, mut hn, mut cn) = (vec![0.0f32; 5 * 2 * 4], vec![0.0f32; 2 * 4], vec![0.0f32; 2 * 4]);
/// let (mut workspace, mut reserve) = (vec![0.0f32; plan.workspace_len()], vec![0.0f32; plan.reserve_len()]);
/// plan.forward(&Stream::Host, Forward {
///     x: Buf::from(&x), h0: None, c0: None, parameters: &parameters, sequence: Sequence::Full,
///     y: BufMut::from(&mut y), hn: BufMut::from(&mut hn), cn: Some(BufMut::from(&mut cn)),
///     dropout_seed: 0, workspace: BufMut::from(&mut workspace), reserve: Some(BufMut::from(&mut reserve)),
/// })?;
/// assert_eq!(y[4 * 2 * 4..], hn); // the last step's output is the last state
///
/// let (dy, mut dx) = (vec![1.0f32; y.len()], vec![0.0f32; x.len()]);
/// plan.backward(&Stream::Host, Backward {
///     x: Buf::from(&x), h0: None, c0: None, parameters: &parameters, sequence: Sequence::Full,
///     dy: Some(Buf::from(&dy)), dhn: None, dcn: None, dx: Some(BufMut::from(&mut dx)), dh0: None, dc0: None,
///     dparameters: &mut [], accumulate: false, dropout_seed: 0,
///     workspace: BufMut::from(&mut workspace), reserve: BufMut::from(&mut reserve),
/// })?;
/// assert!(dx.iter().all(|dx| *dx != 0.0));
/// # Ok::<(), gatefold::Error>(())
/// ```
#[allow(unsafe_code, reason = "the raw layer: pointers of foreign frameworks")]
pub mod recurrent;

pub mod tape;
pub mod tensor;

pub mod ops;

pub mod nn;

pub mod loss;
pub mod optim;

pub mod data;
pub mod train;

pub use device::{Device, MemoryStats};
pub use dtype::DType;
pub use error::{Error, Result};
pub use loss::Reduction;
pub use rng::Philox;
pub use shape::Shape;
pub use tape::{HasParameters, Parameter, Tape, Var};
pub use tensor::Tensor;

/// The programs in the README are compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

/// So are those beside PyTorch's.
#[cfg(doctest)]
#[doc = include_str!("../docs/from-pytorch.md")]
mod from_pytorch {}
