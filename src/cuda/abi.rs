//! `kernels/abi.h` in Rust: the structs that kernels take, by value. A test compares the two line by line.

/// What a kernel takes: plain memory, of a layout that the kernels share.
pub trait Parameters: bytemuck::Pod {
    /// The file under `kernels/` that its kernels are in.
    const FILE: &'static str;
}

macro_rules! constants {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(pub const $name: $type = $value;)*
        #[cfg(test)]
        const CONSTANTS: &[(&str, u64)] = &[$((stringify!($name), $value as u64)),*];
    };
}

macro_rules! structs {
    ($($file:literal $name:ident: $size:literal { $($field:ident: $type:ty,)* })*) => {
        $(
            #[repr(C)]
            #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
            pub struct $name {
                $(pub $field: $type,)*
            }
            // Beyond 4 KiB no kernel takes it.
            const _: () = assert!(size_of::<$name>() == $size && $size <= 4096);
            impl Default for $name {
                fn default() -> Self {
                    bytemuck::Zeroable::zeroed()
                }
            }
            impl Parameters for $name {
                const FILE: &'static str = $file;
            }
        )*
        #[cfg(test)]
        const STRUCTS: &[(&str, usize, &[(&str, &str)])] =
            &[$((stringify!($name), $size, &[$((stringify!($field), stringify!($type))),*])),*];
    };
}

constants! {
    MAX_RANK: usize = 8;
    FAULT_INDEX: u32 = 1;
    FAULT_TARGET: u32 = 2;
    FAULT_INPUT_PROBABILITY: u32 = 3;
    FAULT_TARGET_PROBABILITY: u32 = 4;
    UNARY_NEG: u32 = 0;
    UNARY_EXP: u32 = 1;
    UNARY_LOG: u32 = 2;
    UNARY_SQRT: u32 = 3;
    UNARY_ABS: u32 = 4;
    UNARY_TANH: u32 = 5;
    UNARY_SIGMOID: u32 = 6;
    UNARY_RELU: u32 = 7;
    UNARY_ONE: u32 = 8;
    UNARY_SQUARE: u32 = 9;
    UNARY_POWER: u32 = 10;
    UNARY_AFFINE: u32 = 11;
    UNARY_CLAMP: u32 = 12;
    BINARY_ADD: u32 = 0;
    BINARY_SUB: u32 = 1;
    BINARY_MUL: u32 = 2;
    BINARY_DIV: u32 = 3;
    DTYPE_F64: u32 = 0;
    DTYPE_F32: u32 = 1;
    DTYPE_F16: u32 = 2;
    DTYPE_BF16: u32 = 3;
    DTYPE_U32: u32 = 4;
    DTYPE_I64: u32 = 5;
    REDUCE_SUM: u32 = 0;
    REDUCE_MEAN: u32 = 1;
    REDUCE_MAX: u32 = 2;
    LOSS_MSE: u32 = 0;
    LOSS_L1: u32 = 1;
    LOSS_HUBER: u32 = 2;
    LOSS_SMOOTH_L1: u32 = 3;
    LOSS_BCE: u32 = 4;
    LOSS_BCE_WITH_LOGITS: u32 = 5;
    LOSS_KL_DIV: u32 = 6;
    LOSS_KL_DIV_LOG_TARGET: u32 = 7;
    MAX_TENSORS: usize = 64;
    CHUNK_SIZE: u32 = 4096;
    NORM_TWO: u32 = 0;
    NORM_MAX: u32 = 1;
    NORM_POWER: u32 = 2;
}

structs! {
    "" Fault: 32 {
        kind: u32,
        unused: u32,
        place: i64,
        value: i64,
        bound: i64,
    }
    "elementwise" Unary: 48 {
        x: u64,
        y: u64,
        count: u64,
        a: f64,
        b: f64,
        op: u32,
        unused: u32,
    }
    "elementwise" UnaryBackward: 64 {
        x: u64,
        y: u64,
        dy: u64,
        dx: u64,
        count: u64,
        a: f64,
        b: f64,
        op: u32,
        unused: u32,
    }
    "elementwise" Binary: 232 {
        a: u64,
        b: u64,
        y: u64,
        count: u64,
        extent: [u64; MAX_RANK],
        stride_a: [u64; MAX_RANK],
        stride_b: [u64; MAX_RANK],
        rank: u32,
        op: u32,
    }
    "elementwise" Axpy: 32 {
        x: u64,
        y: u64,
        count: u64,
        alpha: f64,
    }
    "memory" Fill: 24 {
        y: u64,
        count: u64,
        value: u64,
    }
    "memory" Cast: 32 {
        x: u64,
        y: u64,
        count: u64,
        to: u32,
        unused: u32,
    }
    "memory" CopyStrided: 224 {
        x: u64,
        y: u64,
        count: u64,
        extent: [u64; MAX_RANK],
        from: [u64; MAX_RANK],
        to: [u64; MAX_RANK],
        rank: u32,
        unused: u32,
    }
    "reduce" Reduce: 72 {
        x: u64,
        y: u64,
        outer: u64,
        n: u64,
        inner: u64,
        parts: u64,
        part: u64,
        divisor: f64,
        op: u32,
        unused: u32,
    }
    "reduce" ArgMax: 40 {
        x: u64,
        index: u64,
        outer: u64,
        n: u64,
        inner: u64,
    }
    "reduce" ScatterAxis: 48 {
        index: u64,
        dy: u64,
        dx: u64,
        outer: u64,
        n: u64,
        inner: u64,
    }
    "softmax" Softmax: 48 {
        x: u64,
        y: u64,
        outer: u64,
        n: u64,
        inner: u64,
        log: u32,
        unused: u32,
    }
    "softmax" SoftmaxBackward: 56 {
        y: u64,
        dy: u64,
        dx: u64,
        outer: u64,
        n: u64,
        inner: u64,
        log: u32,
        unused: u32,
    }
    "index" Gather: 64 {
        index: u64,
        x: u64,
        y: u64,
        fault: u64,
        outer: u64,
        n: u64,
        inner: u64,
        count: u64,
    }
    "index" SortKeys: 64 {
        index: u64,
        key: u64,
        order: u64,
        fault: u64,
        count: u64,
        n: u64,
        skip: i64,
        skips: u32,
        unused: u32,
    }
    "index" SortPass: 56 {
        key: u64,
        order: u64,
        counts: u64,
        to_key: u64,
        to_order: u64,
        count: u64,
        shift: u32,
        blocks: u32,
    }
    "index" ScatterRows: 64 {
        key: u64,
        order: u64,
        dy: u64,
        dx: u64,
        outer: u64,
        n: u64,
        inner: u64,
        count: u64,
    }
    "random" Dropout: 72 {
        x: u64,
        y: u64,
        first: u64,
        count: u64,
        seed: u64,
        seed_at: u64,
        stream: u64,
        p: f64,
        scale: f64,
    }
    "random" Uniform: 56 {
        y: u64,
        count: u64,
        seed: u64,
        stream: u64,
        low: f64,
        span: f64,
        last: f64,
    }
    "loss" PointwiseLoss: 80 {
        x: u64,
        target: u64,
        weight: u64,
        pos_weight: u64,
        y: u64,
        fault: u64,
        count: u64,
        trailing: u64,
        bound: f64,
        loss: u32,
        unused: u32,
    }
    "loss" PointwiseLossBackward: 80 {
        x: u64,
        target: u64,
        weight: u64,
        pos_weight: u64,
        dy: u64,
        dx: u64,
        count: u64,
        trailing: u64,
        bound: f64,
        loss: u32,
        to_target: u32,
    }
    "loss" ClassLoss: 88 {
        x: u64,
        target: u64,
        weight: u64,
        y: u64,
        sample_weight: u64,
        fault: u64,
        outer: u64,
        classes: u64,
        inner: u64,
        ignore_index: i64,
        smoothing: f64,
    }
    "loss" ClassLossBackward: 72 {
        target: u64,
        weight: u64,
        dy: u64,
        dx: u64,
        outer: u64,
        classes: u64,
        inner: u64,
        ignore_index: i64,
        smoothing: f64,
    }
    "optimizer" Sgd: 2600 {
        p: [u64; MAX_TENSORS],
        g: [u64; MAX_TENSORS],
        buffer: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        tensors: u32,
        nesterov: u32,
        lr: f64,
        momentum: f64,
        keep: f64,
        decay: f64,
    }
    "optimizer" Adam: 3656 {
        p: [u64; MAX_TENSORS],
        g: [u64; MAX_TENSORS],
        m: [u64; MAX_TENSORS],
        v: [u64; MAX_TENSORS],
        top: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        tensors: u32,
        unused: u32,
        shrink: f64,
        decay: f64,
        m_weight: f64,
        beta2: f64,
        v_weight: f64,
        eps: f64,
        size: f64,
        root: f64,
    }
    "optimizer" RmsProp: 3640 {
        p: [u64; MAX_TENSORS],
        g: [u64; MAX_TENSORS],
        v: [u64; MAX_TENSORS],
        mean: [u64; MAX_TENSORS],
        buffer: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        tensors: u32,
        unused: u32,
        lr: f64,
        alpha: f64,
        v_weight: f64,
        eps: f64,
        decay: f64,
        momentum: f64,
    }
    "optimizer" Adagrad: 2592 {
        p: [u64; MAX_TENSORS],
        g: [u64; MAX_TENSORS],
        sum: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        tensors: u32,
        unused: u32,
        rate: f64,
        eps: f64,
        decay: f64,
    }
    "clip" NormParts: 1560 {
        x: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        parts: u64,
        p: f64,
        tensors: u32,
        op: u32,
    }
    "clip" NormJoin: 56 {
        parts: u64,
        norm: u64,
        factor: u64,
        count: u64,
        p: f64,
        max_norm: f64,
        op: u32,
        unused: u32,
    }
    "clip" Scale: 1552 {
        x: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        factor: u64,
        tensors: u32,
        unused: u32,
    }
    "clip" Clamp: 1560 {
        x: [u64; MAX_TENSORS],
        count: [u64; MAX_TENSORS],
        first: [u64; MAX_TENSORS],
        low: f64,
        high: f64,
        tensors: u32,
        unused: u32,
    }
    "recurrent" RecurrentRows: 88 {
        from: u64,
        to: u64,
        offsets: u64,
        sequences: u64,
        steps: u64,
        batch: u64,
        rows: u64,
        width: u64,
        step_stride: u64,
        sequence_stride: u64,
        vector: u64,
    }
    "recurrent" RecurrentStates: 80 {
        from: u64,
        to: u64,
        offsets: u64,
        sequences: u64,
        steps: u64,
        count: u64,
        batch: u64,
        width: u64,
        stride: u64,
        last: u64,
    }
    "recurrent" RecurrentBias: 48 {
        ih: u64,
        hh: u64,
        to: u64,
        gates: u64,
        hidden: u64,
        split: u64,
    }
    "recurrent" RecurrentPrevious: 72 {
        y: u64,
        first: u64,
        to: u64,
        offsets: u64,
        steps: u64,
        rows: u64,
        width: u64,
        stride: u64,
        reverse: u64,
    }
    "recurrent" RecurrentSums: 40 {
        from: u64,
        to: u64,
        rows: u64,
        width: u64,
        part: u64,
    }
    "recurrent" RecurrentPeephole: 88 {
        gates: u64,
        cells: u64,
        first: u64,
        to: u64,
        offsets: u64,
        steps: u64,
        batch: u64,
        rows: u64,
        hidden: u64,
        part: u64,
        reverse: u64,
    }
    "recurrent" RecurrentTotals: 48 {
        from: u64,
        to: u64,
        parts: u64,
        stride: u64,
        count: u64,
        add: u64,
    }
    "recurrent" RecurrentProjected: 48 {
        dh: u64,
        dy: u64,
        to: u64,
        count: u64,
        width: u64,
        stride: u64,
    }
    "step" RecurrentStep: 136 {
        pre: u64,
        gates: u64,
        q: u64,
        kept: u64,
        bias: u64,
        c_before: u64,
        c_first: u64,
        c: u64,
        h_before: u64,
        h_first: u64,
        y: u64,
        peephole: u64,
        count: u64,
        before: u64,
        hidden: u64,
        stride: u64,
        vector: u64,
    }
    "step" RecurrentStepBackward: 128 {
        gates: u64,
        q: u64,
        c: u64,
        c_before: u64,
        c_first: u64,
        h_before: u64,
        h_first: u64,
        dy: u64,
        dh: u64,
        dc: u64,
        peephole: u64,
        count: u64,
        before: u64,
        hidden: u64,
        stride: u64,
        vector: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../kernels/abi.h");

    #[test]
    fn the_header_says_the_same() {
        let mut expected = String::new();
        for (name, value) in CONSTANTS {
            let suffix = if name.starts_with("MAX_") { "" } else { "u" };
            expected += &format!("#define {name} {value}{suffix}\n");
        }
        for (name, size, fields) in STRUCTS {
            expected += &format!("struct {name} {{\n");
            for (field, rust) in *fields {
                let (rust, extent) = match rust.trim_matches(['[', ']']).split_once(';') {
                    Some((rust, extent)) => (rust, format!("[{}]", extent.trim())),
                    None => (*rust, String::new()),
                };
                let c = match rust {
                    "u64" => "uint64_t",
                    "u32" => "uint32_t",
                    "i64" => "int64_t",
                    "f64" => "double",
                    other => panic!("{other} has no word in C"),
                };
                expected += &format!("    {c} {field}{extent};\n");
            }
            expected += &format!("}};\nGATEFOLD_SIZE({name}, {size});\n");
        }
        let plain = |line: &&str| !line.is_empty() && !line.trim_start().starts_with("//");
        let code = HEADER.split_once("#endif\n").expect("the header begins with its macros").1;
        let mut want: Vec<&str> = expected.lines().collect();
        let mut got: Vec<&str> = code.lines().filter(plain).collect();
        // Constants stand among the structs there and before them here.
        want.sort_by_key(|line| !line.starts_with("#define"));
        got.sort_by_key(|line| !line.starts_with("#define"));
        assert_eq!(got, want);
    }
}
