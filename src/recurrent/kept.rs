//! Weights that stay packed between calls on the CPU.
//!
//! A call packs the weights of every layer, which for few steps is most of its work: the steps of a cell, or of a model that writes its own
//! input. So a module keeps them, once it has seen the same weights twice: those that change after every call, as in training over whole
//! sequences, cost no memory. What the numbers are is told by the [version](crate::cpu::Buffer::version) of the parameters' memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::Shape;
use crate::cpu::{
    Buffer,
    gemm::GemmReal,
    recurrent::{Extents, Operand, Weights, pack_weights},
};

/// Rows of a call above which packing its weights is little beside it.
const MOST_ROWS: usize = 2048;

/// Ways to pack weights that are kept at once: calls of two kinds may take turns, such as single steps and batches.
const FORMS: usize = 2;

/// The parameters' versions of one layer and direction.
type Versions = SmallVec<[u64; 6]>;

/// One pass's weights of one layer and direction.
#[derive(Default)]
struct Entry {
    /// Of the parameters that were seen last.
    versions: Versions,
    /// Those, as these operands: in up to [`FORMS`] ways, what was used last behind.
    packed: Vec<(Vec<Operand>, Arc<Buffer>)>,
}

impl Entry {
    /// What is kept of these parameters as a call of such extents wants it; what was used last then.
    fn find<T: GemmReal>(
        &mut self,
        versions: &[u64],
        extents: Extents,
        backward: bool,
    ) -> Option<(Extents, Arc<Buffer>)> {
        let operands = || (0..extents.parts).flat_map(|part| extents.operands::<T>(backward, part));
        let at = self.packed.iter().position(|(of, _)| of.iter().copied().eq(operands()))?;
        if self.versions[..] != *versions {
            return None;
        }
        self.packed[at..].rotate_left(1);
        self.packed.last().map(|(_, packed)| (extents, packed.clone()))
    }
}

/// The weights of one network, as they were packed for a pass forward and one backward.
#[derive(Default)]
pub(crate) struct KeptWeights([Mutex<Vec<Entry>>; 2]);

impl std::fmt::Debug for KeptWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeptWeights")
    }
}

/// What a call may keep, and the versions of its parameters, in their order; none where they are not the CPU's.
#[derive(Clone, Copy)]
pub(crate) struct Keep<'a> {
    pub weights: &'a KeptWeights,
    pub versions: &'a [u64],
}

impl Keep<'_> {
    /// Whether a call of these extents keeps weights. Those that are trained change before the next call, but for the steps of a cell.
    pub fn pays(shape: Shape, training: bool) -> bool {
        shape.seq * shape.batch <= MOST_ROWS && (shape.seq == 1 || !training)
    }

    /// Frees what is kept of other weights than the call's: of both passes, or, by a call forward that keeps, of the pass back alone, as it
    /// replaces its own.
    pub fn forget_others(&self, keeps: bool) {
        for entries in &self.weights.0[usize::from(keeps)..] {
            for entry in lock(entries).iter_mut().filter(|entry| !entry.packed.is_empty()) {
                let mut layers = self.versions.windows(entry.versions.len());
                if !layers.any(|versions| *versions == entry.versions[..]) {
                    entry.packed = Vec::new();
                }
            }
        }
    }

    /// The packed weights as [`packed`](Self::packed) answers them, where they are there already.
    pub fn found<T: GemmReal>(
        &self,
        (index, range): (usize, std::ops::Range<usize>),
        extents: &Extents,
        backward: bool,
    ) -> Option<(Extents, Arc<Buffer>)> {
        let extents = Extents { kept: true, ..*extents };
        lock(&self.weights.0[usize::from(backward)]).get_mut(index)?.find::<T>(&self.versions[range], extents, backward)
    }

    /// The packed weights of the `index`-th layer and direction, whose parameters are those of `range`, where they are kept; and of what
    /// extents they are.
    pub fn packed<T: GemmReal>(
        &self,
        (index, range): (usize, std::ops::Range<usize>),
        extents: &Extents,
        weights: &Weights<'_, T>,
        backward: bool,
    ) -> Option<(Extents, Arc<Buffer>)> {
        let versions = &self.versions[range];
        let extents = Extents { kept: true, ..*extents };
        let operands = || (0..extents.parts).flat_map(|part| extents.operands::<T>(backward, part));
        let entries = &self.weights.0[usize::from(backward)];
        {
            let mut entries = lock(entries);
            if entries.len() <= index {
                entries.resize_with(index + 1, Entry::default);
            }
            let entry = &mut entries[index];
            if entry.versions[..] != *versions {
                *entry = Entry { versions: Versions::from_slice(versions), packed: Vec::new() };
                return None;
            }
            if let Some(found) = entry.find::<T>(versions, extents, backward) {
                return Some(found);
            }
        }
        // Unlocked: while this thread waits for others that pack, it may begin on another call of the same module.
        let mut buffer = Buffer::new(T::DTYPE, operands().map(|o| o.len).sum()).ok()?;
        pack_weights(&extents, weights, backward, buffer.slice_mut::<T>());
        let packed = Arc::new(buffer);
        let entry = &mut lock(entries)[index];
        // Another thread may have been quicker.
        if entry.versions[..] == *versions && !entry.packed.iter().any(|(of, _)| of.iter().copied().eq(operands())) {
            if entry.packed.len() == FORMS {
                entry.packed.remove(0);
            }
            entry.packed.push((operands().collect(), packed.clone()));
        }
        Some((extents, packed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Device, Philox,
        cell::Cell,
        cpu::{
            simd::{Isa, isa},
            testing::skipped,
        },
        recurrent::{Backward, Buf, BufMut, Descriptor, Forward, Plan, Sequence, Stream},
    };

    /// A network's numbers, and what a call of it gives.
    struct Net {
        descriptor: Descriptor,
        parameters: Vec<Vec<f32>>,
        rng: Philox,
    }

    impl Net {
        fn new(cell: Cell, hidden: usize) -> Net {
            let mut descriptor = Descriptor::new(cell, 24, hidden);
            (descriptor.num_layers, descriptor.bidirectional) = (2, true);
            let mut rng = Philox::seed(3);
            let numbers = |n: usize, rng: &mut Philox| (0..n).map(|_| rng.uniform() - 0.5).collect();
            let parameters = descriptor.parameters().iter().map(|p| numbers(p.numel(), &mut rng)).collect();
            Net { descriptor, parameters, rng }
        }

        /// y, hn and, of a training call, all parameters' gradients.
        fn call(&mut self, shape: Shape, training: bool, keep: Option<Keep<'_>>) -> Vec<Vec<f32>> {
            let plan = Plan::new(&self.descriptor, shape, &Device::Cpu).unwrap();
            let (d, rows, states) = (&self.descriptor, shape.seq * shape.batch, 4 * shape.batch);
            // The same input for every call.
            self.rng = Philox::seed(4);
            let x: Vec<f32> = (0..rows * d.input_size).map(|_| self.rng.uniform() - 0.5).collect();
            let h0: Vec<f32> = (0..states * d.hidden_size).map(|_| self.rng.uniform() - 0.5).collect();
            let views: Vec<Buf<'_>> = self.parameters.iter().map(Buf::from).collect();
            let zeros = |n: usize| vec![0f32; n];
            let mut y = zeros(rows * 2 * d.hidden_size);
            let (mut hn, mut cn) = (zeros(h0.len()), zeros(h0.len()));
            let (mut workspace, mut reserve) = (zeros(plan.workspace_len()), zeros(plan.reserve_len()));
            let forward = Forward {
                x: (&x).into(),
                h0: Some((&h0).into()),
                c0: None,
                parameters: &views,
                sequence: Sequence::Full,
                y: (&mut y).into(),
                hn: (&mut hn).into(),
                cn: d.cell.has_cell_state().then_some((&mut cn).into()),
                dropout_seed: 0,
                workspace: (&mut workspace).into(),
                reserve: training.then_some((&mut reserve).into()),
            };
            plan.forward_keeping(&Stream::Host, forward, keep).unwrap();
            let mut results = vec![y, hn];
            if training {
                let mut gradients: Vec<Vec<f32>> = self.parameters.iter().map(|p| zeros(p.len())).collect();
                let mut wanted: Vec<Option<BufMut<'_>>> = gradients.iter_mut().map(|g| Some(g.into())).collect();
                let backward = Backward {
                    x: (&x).into(),
                    h0: Some((&h0).into()),
                    c0: None,
                    parameters: &views,
                    sequence: Sequence::Full,
                    dy: Some((&results[0]).into()),
                    dhn: None,
                    dcn: None,
                    dx: None,
                    dh0: None,
                    dc0: None,
                    dparameters: &mut wanted,
                    accumulate: false,
                    dropout_seed: 0,
                    workspace: (&mut workspace).into(),
                    reserve: (&mut reserve).into(),
                };
                plan.backward_keeping(&Stream::Host, backward, keep).unwrap();
                results.extend(gradients);
            }
            results
        }
    }

    /// How many layers and directions have packed weights of a pass.
    fn kept(weights: &KeptWeights, pass: usize) -> usize {
        lock(&weights.0[pass]).iter().filter(|entry| !entry.packed.is_empty()).count()
    }

    #[test]
    fn kept_weights_are_those_of_the_call() {
        for (cell, hidden) in [(Cell::Lstm, 40), (Cell::Gru, 33), (Cell::GruResetBefore, 20), (Cell::LstmPeephole, 32)]
        {
            let (mut net, weights) = (Net::new(cell, hidden), KeptWeights::default());
            let mut versions: Vec<u64> = (1..=net.parameters.len() as u64).collect();
            // Few and many sequences, few and many steps, so that weights are packed in each way there is, or not at all.
            let shapes = [(1, 1), (1, 20), (3, 2), (3, 2), (40, 1), (40, 1), (1, 20), (1, 1)];
            for round in 0..2 {
                for (seq, batch) in shapes {
                    let shape = Shape { seq, batch };
                    for training in [false, false, seq == 1, seq == 1] {
                        let wanted = net.call(shape, training, None);
                        let keep = Keep { weights: &weights, versions: &versions };
                        assert!(
                            net.call(shape, training, Some(keep)) == wanted,
                            "{cell:?} {shape:?}, training {training}"
                        );
                    }
                    assert_eq!(kept(&weights, 0), 4, "after two calls");
                }
                assert_eq!(kept(&weights, 1), 4);
                // Other numbers, of one direction.
                let each = net.parameters.len() / 4;
                net.parameters[each + 1].iter_mut().for_each(|w| *w += 0.25);
                versions[each + 1] = 100 + round;
                let keep = Keep { weights: &weights, versions: &versions };
                let shape = Shape { seq: 1, batch: 2 };
                let wanted = net.call(shape, false, None);
                assert!(net.call(shape, false, Some(keep)) == wanted, "{cell:?}: other weights");
                assert_eq!(kept(&weights, 0), 3, "those are not kept at once");
            }
        }
    }

    /// Those of two kinds of calls in turn are packed once each; a third takes the place of what was not used for longest.
    #[test]
    fn kinds_of_calls_that_take_turns() {
        let (mut net, weights) = (Net::new(Cell::Lstm, 96), KeptWeights::default());
        let versions = vec![1; net.parameters.len()];
        let mut call = |batch| {
            net.call(Shape { seq: 1, batch }, false, Some(Keep { weights: &weights, versions: &versions }));
            let entries = lock(&weights.0[0]);
            // Held, so that no other comes to lie at their addresses.
            entries[0].packed.iter().map(|(_, buffer)| buffer.clone()).collect::<Vec<_>>()
        };
        call(1);
        let one = call(1);
        // As many sequences as go through other kernels, or are divided otherwise.
        let other = [64, 48, 32, 16, 8].into_iter().find(|&batch| call(batch).len() > one.len());
        // Tiles take many sequences and panels one.
        assert!(other.is_some() || isa() != Isa::Amx, "two kinds of calls, and one is kept");
        let Some(other) = other else { return skipped("this processor's kernels take all of these alike") };
        let mut both = call(1);
        both.sort_by_key(Arc::as_ptr);
        for _ in 0..3 {
            for batch in [other, 1] {
                let mut now = call(batch);
                assert!(now.len() <= FORMS);
                now.sort_by_key(Arc::as_ptr);
                let same = now.iter().zip(&both).all(|(now, before)| Arc::ptr_eq(now, before));
                assert!(now.len() == both.len() && same, "packed anew for {batch}");
            }
        }
    }

    #[test]
    fn what_is_trained_over_sequences_or_long_is_not_kept() {
        let (mut net, weights) = (Net::new(Cell::Lstm, 8), KeptWeights::default());
        let versions = vec![1; net.parameters.len()];
        let keep = Keep { weights: &weights, versions: &versions };
        for _ in 0..3 {
            net.call(Shape { seq: 2, batch: 3 }, true, Some(keep));
            net.call(Shape { seq: 2, batch: MOST_ROWS }, false, Some(keep));
        }
        assert_eq!((kept(&weights, 0), kept(&weights, 1)), (0, 0));
    }

    #[test]
    fn what_is_kept_goes_with_its_weights() {
        let (mut net, weights) = (Net::new(Cell::Lstm, 8), KeptWeights::default());
        let first = vec![1; net.parameters.len()];
        let second: Vec<u64> = (2..).take(first.len()).collect();
        let keep = |versions| Some(Keep { weights: &weights, versions });
        let both = || (kept(&weights, 0), kept(&weights, 1));
        let (cell, sequence) = (Shape { seq: 1, batch: 3 }, Shape { seq: 2, batch: 3 });
        (0..3).for_each(|_| drop(net.call(cell, true, keep(&first))));
        net.call(sequence, true, keep(&first));
        assert_eq!(both(), (4, 4), "a call that does not keep leaves those of its own weights");
        net.call(cell, false, keep(&second));
        assert_eq!(both(), (0, 0), "nor has inference use for those of the pass back of others");
        (0..3).for_each(|_| drop(net.call(cell, true, keep(&second))));
        net.call(sequence, true, keep(&first));
        assert_eq!(both(), (0, 0), "training over sequences after an evaluation");
        (0..3).for_each(|_| drop(net.call(cell, false, keep(&second))));
        keep(&[]).unwrap().forget_others(false);
        assert_eq!(both(), (0, 0), "weights that have moved to a GPU");
    }
}
