//! cuDNN's recurrent networks by the version 8 API, over the memory that gatefold has too.

use std::{
    cell::Cell,
    ffi::{CStr, c_int},
    ptr::{null, null_mut},
};

use cudarc::{
    cudnn::sys::{self, cudnnStatus_t as Status},
    driver::{result, sys as driver},
};
use gatefold::recurrent::{self, Nonlinearity};

use super::{
    contender::{Contender, Made, Memories, Stop},
    gpu::{Gpu, Memory},
    grid::{Case, Precision},
};

#[derive(Clone, Copy, PartialEq)]
pub enum Algorithm {
    Standard,
    PersistStatic,
    PersistDynamic,
    PersistStaticSmallH,
}

impl Algorithm {
    fn raw(self) -> sys::cudnnRNNAlgo_t {
        use sys::cudnnRNNAlgo_t::*;
        match self {
            Algorithm::Standard => CUDNN_RNN_ALGO_STANDARD,
            Algorithm::PersistStatic => CUDNN_RNN_ALGO_PERSIST_STATIC,
            Algorithm::PersistDynamic => CUDNN_RNN_ALGO_PERSIST_DYNAMIC,
            Algorithm::PersistStaticSmallH => CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H,
        }
    }
}

/// `CUDNN_RNN_PADDED_IO_ENABLED`, a macro of cuDNN's header: layouts that are not packed ask for it.
const PADDED_IO_ENABLED: u32 = 1;

/// The version of the library, such as 9.21.0; or why it is not used.
pub fn version() -> Result<String, String> {
    // SAFETY: opens and closes the library.
    if !unsafe { sys::is_culib_present() } {
        return Err("no libcudnn could be opened".into());
    }
    // SAFETY: takes and gives a number.
    match unsafe { sys::cudnnGetVersion() } {
        // Its statuses have other numbers.
        old @ ..90000 => Err(format!("libcudnn is {}.{}, and 9 is needed", old / 1000, old / 100 % 10)),
        new => Ok(format!("{}.{}.{}", new / 10000, new / 100 % 100, new % 100)),
    }
}

/// A status that is no success, with its call. Whatever a persistent algorithm says to a network is its refusal; the standard
/// one refuses by `NOT_SUPPORTED` alone.
fn check(algorithm: Algorithm, call: &str, status: Status) -> Result<(), Stop> {
    if status == Status::CUDNN_STATUS_SUCCESS {
        return Ok(());
    }
    // SAFETY: a text that the library keeps.
    let name = unsafe { CStr::from_ptr(sys::cudnnGetErrorString(status)) };
    let what = format!("{} by {call}", name.to_string_lossy());
    let unsupported = (3000..4000).contains(&(status as u32));
    Err(if unsupported || algorithm != Algorithm::Standard { Stop::Refused(what) } else { Stop::Failed(what) })
}

macro_rules! call {
    ($algorithm:expr, $function:ident($($argument:expr),* $(,)?)) => {
        check($algorithm, stringify!($function), sys::$function($($argument),*))
    };
}

/// A descriptor, destroyed with its owner.
macro_rules! owned {
    ($($name:ident: $raw:ty, $create:ident, $destroy:ident;)*) => {$(
        struct $name($raw);

        impl $name {
            fn new(algorithm: Algorithm) -> Result<Self, Stop> {
                let mut raw = null_mut();
                // SAFETY: writes one handle.
                unsafe { call!(algorithm, $create(&mut raw))? };
                Ok($name(raw))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: it was created, and is destroyed once.
                let _ = unsafe { sys::$destroy(self.0) };
            }
        }
    )*};
}
/// The library's handle: making one takes long, so there is one, as long as the thread.
fn handle(algorithm: Algorithm, gpu: &Gpu) -> Result<sys::cudnnHandle_t, Stop> {
    thread_local!(static HANDLE: Cell<sys::cudnnHandle_t> = const { Cell::new(null_mut()) });
    if HANDLE.get().is_null() {
        let mut raw = null_mut();
        // SAFETY: writes one handle; the stream is the GPU's and lives as long as the process.
        unsafe {
            call!(algorithm, cudnnCreate(&mut raw))?;
            call!(algorithm, cudnnSetStream(raw, gpu.raw_stream().cast()))?;
        }
        HANDLE.set(raw);
    }
    Ok(HANDLE.get())
}

owned! {
    DropoutDescriptor: sys::cudnnDropoutDescriptor_t, cudnnCreateDropoutDescriptor, cudnnDestroyDropoutDescriptor;
    TensorDescriptor: sys::cudnnTensorDescriptor_t, cudnnCreateTensorDescriptor, cudnnDestroyTensorDescriptor;
    RnnDescriptor: sys::cudnnRNNDescriptor_t, cudnnCreateRNNDescriptor, cudnnDestroyRNNDescriptor;
    DataDescriptor: sys::cudnnRNNDataDescriptor_t, cudnnCreateRNNDataDescriptor, cudnnDestroyRNNDataDescriptor;
}

struct Cudnn<'a> {
    gpu: &'a Gpu,
    memories: &'a Memories,
    algorithm: Algorithm,
    weights: Memory,
    gradients: Memory,
    workspace: Memory,
    reserve: Memory,
    /// Pieces of the weight space and of gatefold's parameters: which parameter, its element, the space's byte, and bytes.
    pieces: Vec<(usize, usize, usize, usize)>,
    // What the library may still look at is dropped last.
    data: DataDescriptor,
    states: TensorDescriptor,
    network: RnnDescriptor,
    _dropout: DropoutDescriptor,
    handle: sys::cudnnHandle_t,
}

/// One algorithm over a case's memory, its weights being the case's.
pub fn make<'a>(gpu: &'a Gpu, case: &Case, memories: &'a Memories, algorithm: Algorithm) -> Made<'a> {
    Ok(Box::new(make_plain(gpu, case, memories, algorithm)?))
}

fn make_plain<'a>(gpu: &'a Gpu, case: &Case, memories: &'a Memories, algorithm: Algorithm) -> Result<Cudnn<'a>, Stop> {
    use sys::{
        cudnnDirectionMode_t as Direction, cudnnMathType_t as Math, cudnnRNNBiasMode_t as Bias,
        cudnnRNNInputMode_t as Input, cudnnRNNMode_t as Mode,
    };
    let mode = match case.cell.1 {
        recurrent::Cell::Lstm => Mode::CUDNN_LSTM,
        recurrent::Cell::Gru => Mode::CUDNN_GRU,
        recurrent::Cell::Rnn(Nonlinearity::Tanh) => Mode::CUDNN_RNN_TANH,
        recurrent::Cell::Rnn(Nonlinearity::Relu) => Mode::CUDNN_RNN_RELU,
        other => return Err(Stop::Refused(format!("no mode of cuDNN computes {other:?}"))),
    };
    let float = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
    // Halves are computed in f32, as gatefold and PyTorch do it; the modes of products are PyTorch's too.
    let (dtype, math) = match case.precision {
        Precision::F32 => (float, Math::CUDNN_FMA_MATH),
        Precision::Tf32 => (float, Math::CUDNN_DEFAULT_MATH),
        Precision::F16 => (sys::cudnnDataType_t::CUDNN_DATA_HALF, Math::CUDNN_TENSOR_OP_MATH),
        Precision::BF16 => (sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16, Math::CUDNN_DEFAULT_MATH),
    };
    let (batch, hidden, seq) = (case.batch as c_int, case.hidden as c_int, case.seq as c_int);
    let handle = handle(algorithm, gpu)?;
    let dropout = DropoutDescriptor::new(algorithm)?;
    let network = RnnDescriptor::new(algorithm)?;
    let data = DataDescriptor::new(algorithm)?;
    let states = TensorDescriptor::new(algorithm)?;
    // Sequences of one length, in the layout in which the persistent algorithms are known to take them.
    let layout = sys::cudnnRNNDataLayout_t::CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED;
    let lengths = vec![seq; case.batch];
    let (extents, strides) = ([1, batch, hidden], [batch * hidden, hidden, 1]);
    let (mut weight_bytes, mut workspace, mut reserve) = (0, [0; 2], [0; 2]);
    // SAFETY: handle and descriptors live; what is pointed to lives through the call.
    unsafe {
        call!(algorithm, cudnnSetDropoutDescriptor(dropout.0, handle, 0.0, null_mut(), 0, 0))?;
        call!(
            algorithm,
            cudnnSetRNNDescriptor_v8(
                network.0,
                algorithm.raw(),
                mode,
                Bias::CUDNN_RNN_DOUBLE_BIAS,
                Direction::CUDNN_UNIDIRECTIONAL,
                Input::CUDNN_LINEAR_INPUT,
                dtype,
                float,
                math,
                hidden,
                hidden,
                hidden, // no projection
                1,
                dropout.0,
                PADDED_IO_ENABLED,
            )
        )?;
        if algorithm == Algorithm::PersistDynamic {
            call!(algorithm, cudnnBuildRNNDynamic(handle, network.0, batch))?;
        }
        call!(
            algorithm,
            cudnnSetRNNDataDescriptor(data.0, dtype, layout, seq, batch, hidden, lengths.as_ptr(), null_mut())
        )?;
        call!(algorithm, cudnnSetTensorNdDescriptor(states.0, dtype, 3, extents.as_ptr(), strides.as_ptr()))?;
        call!(algorithm, cudnnGetRNNWeightSpaceSize(handle, network.0, &mut weight_bytes))?;
        use sys::cudnnForwardMode_t::{CUDNN_FWD_MODE_INFERENCE, CUDNN_FWD_MODE_TRAINING};
        for (i, mode) in [CUDNN_FWD_MODE_INFERENCE, CUDNN_FWD_MODE_TRAINING].into_iter().enumerate() {
            let (workspace, reserve) = (&mut workspace[i], &mut reserve[i]);
            call!(algorithm, cudnnGetRNNTempSpaceSizes(handle, network.0, mode, data.0, workspace, reserve))?;
        }
    }
    let mut made = Cudnn {
        gpu,
        memories,
        algorithm,
        weights: gpu.bytes(weight_bytes)?,
        gradients: gpu.bytes(weight_bytes)?,
        workspace: gpu.bytes(workspace[0].max(workspace[1]))?,
        reserve: gpu.bytes(reserve[0].max(reserve[1]))?,
        pieces: Vec::new(),
        data,
        states,
        network,
        _dropout: dropout,
        handle,
    };
    // Between the pieces there may be gaps.
    gpu.clear(&made.weights)?;
    made.find_pieces(case)?;
    for &(parameter, element, byte, bytes) in &made.pieces {
        // SAFETY: both stretches were found to lie in their memory.
        unsafe { gpu.copy(memories.parameters[parameter].at(element), made.weights.address + byte as u64, bytes)? };
    }
    gpu.synchronize()?;
    Ok(made)
}

impl Cudnn<'_> {
    /// The library says where a linear layer lies: those of the input in PyTorch's order of gates, then those of h.
    fn find_pieces(&mut self, case: &Case) -> Result<(), Stop> {
        let (gates, size) = (case.cell.1.gates(), case.precision.dtype().size());
        let (matrix, bias) = (TensorDescriptor::new(self.algorithm)?, TensorDescriptor::new(self.algorithm)?);
        for id in 0..2 * gates {
            let mut at = [null_mut(); 2];
            let [matrix_at, bias_at] = &mut at;
            // SAFETY: handles and descriptors live; the weight space has as many bytes; two pointers are written.
            unsafe {
                call!(
                    self.algorithm,
                    cudnnGetRNNWeightParams(
                        self.handle,
                        self.network.0,
                        0,
                        self.weights.bytes(),
                        self.weights.pointer(),
                        id as i32,
                        matrix.0,
                        matrix_at,
                        bias.0,
                        bias_at,
                    )
                )?;
            }
            for (kind, descriptor) in [&matrix, &bias].into_iter().enumerate() {
                let len = self.extent(descriptor)?;
                let want = if kind == 0 { case.hidden * case.hidden } else { case.hidden };
                let byte = (at[kind] as u64).wrapping_sub(self.weights.address) as usize;
                if len != want || byte.saturating_add(len * size) > self.weights.bytes() {
                    let what = format!("linear layer {id} has {len} numbers at byte {byte} of its space, not {want}");
                    return Err(Stop::Failed(what));
                }
                // weight_ih, weight_hh, bias_ih, bias_hh
                self.pieces.push((2 * kind + id / gates, id % gates * want, byte, len * size));
            }
        }
        Ok(())
    }

    fn extent(&self, descriptor: &TensorDescriptor) -> Result<usize, Stop> {
        let (mut dtype, mut count) = (sys::cudnnDataType_t::CUDNN_DATA_FLOAT, 0);
        let (mut extents, mut strides) = ([1; 8], [1; 8]);
        let (extents_at, strides_at) = (extents.as_mut_ptr(), strides.as_mut_ptr());
        // SAFETY: up to eight numbers are written to each array.
        unsafe {
            call!(
                self.algorithm,
                cudnnGetTensorNdDescriptor(descriptor.0, 8, &mut dtype, &mut count, extents_at, strides_at)
            )?;
        }
        Ok(extents[..(count as usize).min(8)].iter().map(|&n| n as usize).product())
    }
}

impl Contender for Cudnn<'_> {
    fn forward(&mut self, training: bool) -> Result<(), Stop> {
        use sys::cudnnForwardMode_t::{CUDNN_FWD_MODE_INFERENCE, CUDNN_FWD_MODE_TRAINING};
        let m = self.memories;
        let (mode, reserve_bytes, reserve) = if training {
            (CUDNN_FWD_MODE_TRAINING, self.reserve.bytes(), self.reserve.pointer())
        } else {
            (CUDNN_FWD_MODE_INFERENCE, 0, null_mut())
        };
        // SAFETY: the memory is of the sizes that the library asked for and the descriptors say. From version 8.9 on the lengths
        // need no copy on the device.
        unsafe {
            call!(
                self.algorithm,
                cudnnRNNForward(
                    self.handle,
                    self.network.0,
                    mode,
                    null(),
                    self.data.0,
                    m.x.pointer(),
                    self.data.0,
                    m.y.pointer(),
                    self.states.0,
                    null(),
                    m.hn.pointer(),
                    self.states.0,
                    null(),
                    m.cn.as_ref().map_or(null_mut(), Memory::pointer),
                    self.weights.bytes(),
                    self.weights.pointer(),
                    self.workspace.bytes(),
                    self.workspace.pointer(),
                    reserve_bytes,
                    reserve,
                )
            )
        }
    }

    /// The library only adds to gradients of weights, so they are cleared first.
    fn backward(&mut self) -> Result<(), Stop> {
        let m = self.memories;
        self.gpu.clear(&self.gradients)?;
        // SAFETY: as above; the reserve is that of a forward pass in training.
        unsafe {
            call!(
                self.algorithm,
                cudnnRNNBackwardData_v8(
                    self.handle,
                    self.network.0,
                    null(),
                    self.data.0,
                    m.y.pointer(),
                    m.dy.pointer(),
                    self.data.0,
                    m.dx.pointer(),
                    self.states.0,
                    null(),
                    null(),
                    null_mut(),
                    self.states.0,
                    null(),
                    null(),
                    null_mut(),
                    self.weights.bytes(),
                    self.weights.pointer(),
                    self.workspace.bytes(),
                    self.workspace.pointer(),
                    self.reserve.bytes(),
                    self.reserve.pointer(),
                )
            )?;
            call!(
                self.algorithm,
                cudnnRNNBackwardWeights_v8(
                    self.handle,
                    self.network.0,
                    sys::cudnnWgradMode_t::CUDNN_WGRAD_MODE_ADD,
                    null(),
                    self.data.0,
                    m.x.pointer(),
                    self.states.0,
                    null(),
                    self.data.0,
                    m.y.pointer(),
                    self.gradients.bytes(),
                    self.gradients.pointer(),
                    self.workspace.bytes(),
                    self.workspace.pointer(),
                    self.reserve.bytes(),
                    self.reserve.pointer(),
                )
            )
        }
    }

    fn gather_gradients(&mut self) -> Result<(), Stop> {
        for &(parameter, element, byte, bytes) in &self.pieces {
            // SAFETY: both stretches were found to lie in their memory.
            unsafe {
                let to = self.memories.dparameters[parameter].at(element);
                self.gpu.copy(self.gradients.address + byte as u64, to, bytes)?;
            }
        }
        Ok(())
    }
}

/// The same, each pass captured and replayed: without the host's share, as gatefold's graphs are.
struct Captured<'a> {
    it: Cudnn<'a>,
    /// Inference, training and backward. The first call runs plainly, lest what is only loaded once be captured.
    passes: [Pass; 3],
}

enum Pass {
    New,
    Warm,
    Graph(driver::CUgraphExec),
}

/// One algorithm whose passes are captured.
pub fn make_captured<'a>(gpu: &'a Gpu, case: &Case, memories: &'a Memories, algorithm: Algorithm) -> Made<'a> {
    let it = make_plain(gpu, case, memories, algorithm)?;
    Ok(Box::new(Captured { it, passes: [Pass::New, Pass::New, Pass::New] }))
}

impl Captured<'_> {
    fn run(&mut self, pass: usize, work: impl Fn(&mut Cudnn<'_>) -> Result<(), Stop>) -> Result<(), Stop> {
        let stream = self.it.gpu.raw_stream().cast();
        let asked = |what: &str, e: result::DriverError| Stop::Refused(format!("{:?} by {what}", e.0));
        if let Pass::New = self.passes[pass] {
            work(&mut self.it)?;
            self.passes[pass] = Pass::Warm;
            return Ok(());
        }
        if let Pass::Warm = self.passes[pass] {
            let relaxed = driver::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
            // SAFETY: the stream lives; the capture ends below, whatever the work says; the graph is destroyed once.
            unsafe {
                result::stream::begin_capture(stream, relaxed).map_err(|e| asked("cuStreamBeginCapture", e))?;
                let queued = work(&mut self.it);
                let graph = result::stream::end_capture(stream).map_err(|e| asked("cuStreamEndCapture", e))?;
                queued?;
                let exec = result::graph::instantiate(graph, driver::CUgraphInstantiate_flags(0));
                let _ = result::graph::destroy(graph);
                self.passes[pass] = Pass::Graph(exec.map_err(|e| asked("cuGraphInstantiate", e))?);
            }
        }
        if let Pass::Graph(exec) = self.passes[pass] {
            // SAFETY: graph and stream live.
            unsafe { result::graph::launch(exec, stream) }.map_err(|e| asked("cuGraphLaunch", e))?;
        }
        Ok(())
    }
}

impl Contender for Captured<'_> {
    fn forward(&mut self, training: bool) -> Result<(), Stop> {
        self.run(usize::from(training), |it| it.forward(training))
    }

    fn backward(&mut self) -> Result<(), Stop> {
        self.run(2, |it| it.backward())
    }

    fn gather_gradients(&mut self) -> Result<(), Stop> {
        self.it.gather_gradients()
    }
}

impl Drop for Captured<'_> {
    fn drop(&mut self) {
        let _ = self.it.gpu.synchronize();
        for pass in &self.passes {
            if let Pass::Graph(exec) = pass {
                // SAFETY: nothing runs, and it is destroyed once.
                let _ = unsafe { result::graph::exec_destroy(*exec) };
            }
        }
    }
}
