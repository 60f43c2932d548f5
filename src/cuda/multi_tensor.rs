//! Lists of tensors in one launch: the table in a kernel's parameters by which a block finds its chunk of one of them.

use super::{
    Buffer,
    abi::{CHUNK_SIZE, MAX_TENSORS},
    launch::Grid,
};
use crate::error::Result;

/// A number of each tensor of a launch; 0 behind the last.
pub type Column = [u64; MAX_TENSORS];

pub fn column(values: impl Iterator<Item = u64>) -> Column {
    let mut column = [0; MAX_TENSORS];
    column.iter_mut().zip(values).for_each(|(to, value)| *to = value);
    column
}

/// The first block of each.
pub type Places = [u32; MAX_TENSORS];

/// Blocks that a tensor takes.
pub fn chunks(buffer: &Buffer) -> usize {
    buffer.len().div_ceil(CHUNK_SIZE as usize)
}

/// The lengths of up to [`MAX_TENSORS`] tensors, none of them empty, and their places in the grid.
pub struct Table {
    pub count: Column,
    pub first: Places,
    pub tensors: u32,
    /// Chunks of all of them.
    pub chunks: usize,
}

impl Table {
    pub fn new<'a>(buffers: impl Iterator<Item = &'a Buffer>) -> Self {
        let mut table = Table { count: [0; MAX_TENSORS], first: [0; MAX_TENSORS], tensors: 0, chunks: 0 };
        for (i, buffer) in buffers.enumerate() {
            table.count[i] = buffer.len() as u64;
            table.first[i] = table.chunks as u32;
            table.tensors += 1;
            table.chunks += chunks(buffer);
        }
        table
    }

    /// A block for each chunk.
    pub fn grid(&self) -> Grid {
        blocks(self.chunks)
    }
}

/// So many blocks, with shared memory by which each joins 32 values of f64.
pub fn blocks(blocks: usize) -> Grid {
    Grid { blocks: blocks as u32, threads: (256, 1), shared: 32 * 8 }
}

/// Calls `launch` with as few lists as hold all items that are not empty: of one dtype and key, up to [`MAX_TENSORS`] in each.
pub fn launches<'a, T, K: PartialEq>(
    items: &'a [T],
    buffer: impl Fn(&'a T) -> &'a Buffer,
    key: impl Fn(&'a T) -> K,
    mut launch: impl FnMut(&[&'a T], &Table) -> Result<()>,
) -> Result<()> {
    let mut left: Vec<&T> = items.iter().filter(|item| buffer(item).len() > 0).collect();
    while let Some(first) = left.first() {
        let (first, common): (&T, _) = (first, (buffer(first).dtype(), key(first)));
        // The first itself in any case: a key with a NaN equals nothing.
        let alike = |i: &&'a T| std::ptr::eq(*i, first) || (buffer(i).dtype(), key(i)) == common;
        let (alike, others) = left.into_iter().partition::<Vec<_>, _>(alike);
        left = others;
        for some in alike.chunks(MAX_TENSORS) {
            launch(some, &Table::new(some.iter().map(|item| buffer(item))))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::testing::{FLOATS, numbers, skipped},
        cuda::Cuda,
        dtype::{DType, Element, with_dtype},
        kernel::{Kernels, Step, Update},
    };

    /// Where an address is not that of a whole vector elements are moved one by one: to the same bits.
    #[test]
    fn addresses_of_any_alignment() {
        let cuda = match Cuda::open("test", 0) {
            Ok(cuda) => cuda,
            Err(why) if std::env::var_os("GATEFOLD_TESTS_NEED_GPU").is_some() => panic!("{why}"),
            Err(why) => return skipped(&why.to_string()),
        };
        const LEN: usize = 5001;
        let update = Update::Adam {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            decoupled: false,
            amsgrad: true,
            step: 1,
        };
        let bits = |x: &Buffer, skip: usize| -> Vec<u64> {
            with_dtype!(x.dtype(), T => {
                let mut host = vec![T::default(); x.len()];
                cuda.download(x, &mut host).unwrap();
                host[skip..skip + LEN].iter().map(|v| v.to_f64().to_bits()).collect()
            })
        };
        let run = |dtype: DType, skip: usize| {
            let memory = |dtype: DType, seed: u64| {
                with_dtype!(dtype, T => {
                    let values = numbers(LEN, seed).into_iter().map(|v| <T as Element>::from_f64(v.abs()));
                    let around = std::iter::repeat_n(<T as Element>::from_f64(7.0), skip);
                    cuda.upload(&around.clone().chain(values).chain(around).collect::<Vec<T>>()).unwrap()
                })
            };
            let view = |x: &Buffer| {
                let address = x.address() + (skip * x.dtype().size()) as u64;
                // SAFETY: inside the buffer, which outlives the view and which nobody else uses meanwhile.
                unsafe { Buffer::view(x.context(), address, x.dtype(), LEN) }
            };
            let all = [0, 1, 2, 3, 4].map(|i| memory(if i < 2 { dtype } else { dtype.wide() }, i));
            let [mut parameter, mut gradient, mut m, mut v, mut top] = all.each_ref().map(view);
            let state = [&mut m, &mut v, &mut top].map(Some);
            let (master, clock) = (None, 0);
            let step = Step { update, parameter: &mut parameter, gradient: &gradient, state, master, clock };
            cuda.update(&mut [step], None).unwrap();
            let mut scalars = [0.0; 2].map(|zero| cuda.upload(&[zero]).unwrap());
            let [norm, factor] = &mut scalars;
            cuda.norm(2.0, 1.0, &[&gradient], norm, factor).unwrap();
            cuda.scale_each(factor, &mut [&mut gradient]).unwrap();
            cuda.clamp_each(-0.5, 0.5, &mut [&mut m]).unwrap();
            let around = |x: &Buffer| {
                with_dtype!(x.dtype(), T => {
                    let mut host = vec![T::default(); x.len()];
                    cuda.download(x, &mut host).unwrap();
                    host[..skip].iter().chain(&host[skip + LEN..]).all(|v| v.to_f64() == 7.0)
                })
            };
            assert!(all.iter().all(around), "nothing beside the view is written");
            let mut norm = [0.0f64];
            cuda.download(&scalars[0], &mut norm).unwrap();
            (all.each_ref().map(|x| bits(x, skip)), norm[0].to_bits())
        };
        for dtype in FLOATS {
            assert!(run(dtype, 0) == run(dtype, 1), "{dtype}");
        }
    }
}
