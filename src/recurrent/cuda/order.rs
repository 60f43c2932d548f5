//! How packed rows stand in the caller's memory.

use super::super::{Layout, Plan, Sequence, Shape};
use crate::{cuda::recurrent::Lane, error::Result};

/// Rows are packed: those of one step side by side, sequences from the longest to the shortest.
pub(super) struct Order {
    /// Before each step, and behind the last.
    offset: Vec<usize>,
    /// The caller's rows from a step to the next and from a sequence to the next; `None`: they are packed already.
    pub strides: Option<(usize, usize)>,
    /// Some of the caller's rows belong to no sequence.
    pub gaps: bool,
    /// The offsets on the device; 0 where every step has the whole batch.
    pub offsets: u64,
    /// On the device: which of the caller's sequences stands where; 0 where they stand as given.
    pub sequences: u64,
}

impl Order {
    /// i64 numbers that the tables take.
    pub fn tables_len(shape: Shape) -> usize {
        shape.seq + 1 + shape.batch
    }

    pub fn new(plan: &Plan, sequence: Sequence<'_>, lane: Lane, tables: u64) -> Result<Self> {
        let Shape { seq, batch } = plan.shape();
        let strides = match plan.memory_layout() {
            Layout::TimeMajor => (batch, 1),
            Layout::BatchMajor => (1, seq),
        };
        let full = || (0..=seq).map(|t| t * batch).collect();
        let (offset, strides, table): (Vec<usize>, _, Vec<usize>) = match sequence {
            Sequence::Lengths(lengths) if lengths.iter().any(|&n| n < seq) => {
                let mut order: Vec<usize> = (0..batch).collect();
                order.sort_by_key(|&b| std::cmp::Reverse(lengths[b]));
                let longest = lengths[order[0]];
                let active = (0..longest).map(|t| order.partition_point(|&b| lengths[b] > t));
                (running(active), Some(strides), order)
            }
            Sequence::Packed { batch_sizes } => (running(batch_sizes.iter().copied()), None, Vec::new()),
            // One row to a step or one step: either layout is packed.
            _ => (full(), (strides.1 != 1 && batch > 1 && seq > 1).then_some(strides), Vec::new()),
        };
        let (gaps, even) = (!table.is_empty(), offset[offset.len() - 1] == batch * (offset.len() - 1));
        let mut order = Order { offset, strides, gaps, offsets: 0, sequences: 0 };
        if !even || gaps {
            let numbers: Vec<i64> = order.offset.iter().chain(&table).map(|&n| n as i64).collect();
            lane.upload(&numbers, tables)?;
            order.offsets = tables;
            order.sequences = if gaps { tables + (order.offset.len() * size_of::<i64>()) as u64 } else { 0 };
        }
        Ok(order)
    }

    pub fn steps(&self) -> usize {
        self.offset.len() - 1
    }

    pub fn rows(&self) -> usize {
        self.offset[self.steps()]
    }

    /// The first row of a step.
    pub fn at(&self, t: usize) -> usize {
        self.offset[t]
    }

    /// Sequences that reach a step.
    pub fn active(&self, t: usize) -> usize {
        self.offset[t + 1] - self.offset[t]
    }

    /// First row of the step before t in the direction of the recurrence, and how many sequences have one.
    pub fn before(&self, t: usize, reverse: bool) -> (usize, usize) {
        match if reverse { (t + 1 < self.steps()).then_some(t + 1) } else { t.checked_sub(1) } {
            Some(before) => (self.at(before), self.active(before).min(self.active(t))),
            None => (0, 0),
        }
    }
}

/// Sums so far, from 0.
fn running(counts: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut sums = vec![0];
    for n in counts {
        sums.push(sums[sums.len() - 1] + n);
    }
    sums
}
