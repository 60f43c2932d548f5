//! Packed sequences: batches of unequal lengths without their padding, as PyTorch packs them.

use crate::{
    device::Device,
    dtype::DType,
    error::{Error, Result},
    shape::Shape,
    tape::Var,
    tensor::Tensor,
};

/// A batch of sequences of unequal lengths, step by step: the first `batch_sizes[0]` rows of `data` are step 0 of the
/// sequences from the longest to the shortest, the next `batch_sizes[1]` rows step 1 of those that have one, and so on.
///
/// ```
/// use gatefold::{DType, Device, Philox, Tape, Tensor, nn::{Gru, pack_sequence, pad_packed_sequence}};
/// let (device, mut rng) = (Device::Cpu, Philox::seed(1));
/// let gru = Gru::new(4, 8).init(&device, &mut rng)?;
/// let tape = Tape::new();
/// let mut sequence = |steps| {
///     Ok::<_, gatefold::Error>(tape.constant(Tensor::normal([steps, 4], 0.0, 1.0, DType::F32, &device, &mut rng)?))
/// };
/// let packed = pack_sequence(&[sequence(2)?, sequence(5)?, sequence(4)?], false)?;
/// assert_eq!(packed.batch_sizes, [3, 3, 2, 2, 1]);
/// let (y, last) = gru.forward_packed(&packed, None)?;
/// let (padded, lengths) = pad_packed_sequence(&y, false, 0.0, None)?;
/// assert_eq!((padded.dims(), lengths, last.dims()), (&[5, 3, 8][..], vec![2, 5, 4], &[1, 3, 8][..]));
/// # Ok::<(), gatefold::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PackedSequence {
    /// The rows `(Σ batch_sizes, …)`.
    pub data: Var,
    /// How many sequences have each step: never growing.
    pub batch_sizes: Vec<usize>,
    /// For each place in the order of falling lengths, the sequence that is there; `None` when the batch came in that order.
    pub sorted_indices: Option<Vec<usize>>,
    /// For each sequence, its place in that order: the inverse of `sorted_indices`.
    pub unsorted_indices: Option<Vec<usize>>,
}

impl PackedSequence {
    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.batch_sizes.first().copied().unwrap_or(0)
    }

    /// The length of each sequence, in the original order of the batch.
    pub fn lengths(&self) -> Vec<usize> {
        let sorted = self.sorted_lengths();
        match &self.unsorted_indices {
            Some(places) => places.iter().map(|&place| sorted.get(place).copied().unwrap_or(0)).collect(),
            None => sorted,
        }
    }

    fn sorted_lengths(&self) -> Vec<usize> {
        (0..self.batch()).map(|place| self.batch_sizes.partition_point(|&size| size > place)).collect()
    }

    /// The row of `data` where each step begins.
    fn offsets(&self) -> Vec<usize> {
        let starts = self.batch_sizes.iter().scan(0, |next, size| {
            *next += size;
            Some(*next - size)
        });
        starts.collect()
    }

    /// That the parts, which anyone may set, fit together.
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let sizes = &self.batch_sizes;
        let falling = sizes.windows(2).all(|pair| pair[0] >= pair[1]) && sizes.last().is_some_and(|&last| last > 0);
        let rows = sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if !falling || rows.is_none() || rows != self.data.dims().first().copied() {
            let got = format!("data {} with batch_sizes {sizes:?}", self.data.shape());
            return Err(Error::shape(op, got, "positive batch_sizes that never grow and add up to the rows of data"));
        }
        let batch = self.batch();
        let inverse = match (&self.sorted_indices, &self.unsorted_indices) {
            (None, None) => true,
            (Some(sorted), Some(places)) => {
                sorted.len() == batch
                    && places.len() == batch
                    && places.iter().enumerate().all(|(i, &place)| sorted.get(place) == Some(&i))
            }
            _ => false,
        };
        if inverse {
            Ok(())
        } else {
            let got = format!("sorted_indices {:?}, unsorted_indices {:?}", self.sorted_indices, self.unsorted_indices);
            Err(Error::argument(op, got, format!("a permutation of {batch} and its inverse, or neither")))
        }
    }
}

/// An index tensor where `beside` lies.
pub(super) fn index(rows: &[usize], beside: &Var) -> Result<Tensor> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    Tensor::from_slice(&rows, rows.len(), &beside.device())
}

/// One length per sequence, each of 1 to `seq` steps.
pub(super) fn check_lengths(op: &'static str, lengths: &[usize], seq: usize, batch: usize) -> Result<()> {
    if lengths.len() != batch {
        return Err(Error::shape(
            op,
            format!("{} lengths", lengths.len()),
            format!("one for each of {batch} sequences"),
        ));
    }
    match lengths.iter().find(|length| !(1..=seq).contains(*length)) {
        Some(length) => Err(Error::argument(op, format!("a length of {length}"), format!("lengths from 1 to {seq}"))),
        None => Ok(()),
    }
}

/// Packs a padded batch x `(T, B, …)`, or `(B, T, …)` with `batch_first`: PyTorch's `pack_padded_sequence`.
///
/// With `enforce_sorted` the lengths must not grow; without, the sequences are sorted by falling length, those of equal
/// length staying in their order (which PyTorch leaves open).
///
/// # Errors
/// x of less than two axes; a length of 0 or above T, or not one per sequence; growing lengths with `enforce_sorted`.
pub fn pack_padded_sequence(
    x: &Var,
    lengths: &[usize],
    batch_first: bool,
    enforce_sorted: bool,
) -> Result<PackedSequence> {
    const OP: &str = "pack_padded_sequence";
    let (seq, batch, rest) = match x.dims() {
        [batch, seq, rest @ ..] if batch_first => (*seq, *batch, rest),
        [seq, batch, rest @ ..] => (*seq, *batch, rest),
        _ => return Err(Error::shape(OP, x.shape(), "(T, B, …), or (B, T, …) with batch_first")),
    };
    check_lengths(OP, lengths, seq, batch)?;
    let Some(&longest) = lengths.iter().max() else {
        return Err(Error::shape(OP, x.shape(), "at least one sequence"));
    };
    let mut order: Vec<usize> = (0..batch).collect();
    let (mut sorted_indices, mut unsorted_indices) = (None, None);
    if enforce_sorted {
        if !lengths.is_sorted_by(|a, b| a >= b) {
            return Err(Error::argument(
                OP,
                format!("lengths {lengths:?}"),
                "lengths that never grow, or enforce_sorted = false",
            ));
        }
    } else {
        order.sort_by_key(|&b| std::cmp::Reverse(lengths[b]));
        let mut places = vec![0; batch];
        order.iter().enumerate().for_each(|(place, &b)| places[b] = place);
        (sorted_indices, unsorted_indices) = (Some(order.clone()), Some(places));
    }
    let batch_sizes: Vec<usize> = (0..longest).map(|t| order.partition_point(|&b| lengths[b] > t)).collect();
    let row = |t: usize, b: usize| if batch_first { b * seq + t } else { t * batch + b };
    let rows: Vec<usize> = (0..longest).flat_map(|t| order[..batch_sizes[t]].iter().map(move |&b| row(t, b))).collect();
    // Only without features there may be more of them.
    let all = Shape::checked_numel(&[seq, batch], OP)?;
    let data = take_rows(x, &[all], rest, &rows, None, &[rows.len()])?;
    Ok(PackedSequence { data, batch_sizes, sorted_indices, unsorted_indices })
}

/// The padded batch of a packed one, and the lengths: PyTorch's `pad_packed_sequence`. The batch is in its original order,
/// `(T, B, …)` or `(B, T, …)` with `batch_first`; T is `total_length` or else the longest length.
///
/// # Errors
/// Parts that do not fit together; a `total_length` below the longest length, or so large that memory could not hold the batch.
pub fn pad_packed_sequence(
    packed: &PackedSequence,
    batch_first: bool,
    padding_value: f64,
    total_length: Option<usize>,
) -> Result<(Var, Vec<usize>)> {
    const OP: &str = "pad_packed_sequence";
    packed.check(OP)?;
    let (longest, batch) = (packed.batch_sizes.len(), packed.batch());
    let seq = total_length.unwrap_or(longest);
    if seq < longest {
        return Err(Error::argument(
            OP,
            format!("total_length {seq}"),
            format!("at least the longest length, {longest}"),
        ));
    }
    // Of no features too: a list of as many rows is made.
    Shape::checked_numel(&[seq, batch], OP)?;
    Shape::checked_numel(&[&[seq, batch], &packed.data.dims()[1..]].concat(), OP)?;
    let (lengths, offsets) = (packed.lengths(), packed.offsets());
    let place = |b: usize| packed.unsorted_indices.as_ref().map_or(b, |places| places[b]);
    let row = |t: usize, b: usize| (t < lengths[b]).then(|| offsets[t] + place(b));
    let y = padded(OP, &packed.data, (seq, batch), batch_first, padding_value, row)?;
    Ok((y, lengths))
}

/// A mask (uint8) of the steps that sequences of these lengths have in a batch of `seq` steps: 1 where there is one, 0 at padding. `(T, B)`, or
/// `(B, T)` with `batch_first`; for [`Var::masked_fill`] and [`Tensor::where_cond`].
///
/// ```
/// use gatefold::{Device, nn::length_mask};
/// assert_eq!(length_mask(&[3, 1], 3, true, &Device::Cpu)?.to_vec::<u8>()?, [1, 1, 1, 1, 0, 0]);
/// # Ok::<(), gatefold::Error>(())
/// ```
///
/// # Errors
/// A length above `seq`; more steps than memory holds; a device that is not there.
pub fn length_mask(lengths: &[usize], seq: usize, batch_first: bool, device: &Device) -> Result<Tensor> {
    const OP: &str = "length_mask";
    if let Some(length) = lengths.iter().find(|&&length| length > seq) {
        return Err(Error::argument(OP, format!("a length of {length}"), format!("lengths up to {seq}")));
    }
    let batch = lengths.len();
    Shape::checked_numel(&[seq, batch], OP)?;
    if batch == 0 {
        let shape = if batch_first { [0, seq] } else { [seq, 0] };
        return Tensor::zeros(shape, DType::U8, device);
    }
    let mut mask = Vec::new();
    let wanted = mask.try_reserve_exact(seq * batch);
    wanted.map_err(|_| Error::shape(OP, format!("{seq} steps of {batch} sequences"), "no more than memory holds"))?;
    let shape = if batch_first {
        mask.extend(lengths.iter().flat_map(|&length| (0..seq).map(move |t| u8::from(t < length))));
        [batch, seq]
    } else {
        mask.extend((0..seq).flat_map(|t| lengths.iter().map(move |&length| u8::from(t < length))));
        [seq, batch]
    };
    Tensor::from_slice(&mask, shape, device)
}

/// Sequences `(Lᵢ, …)` padded to the longest, `(T, B, …)` or `(B, T, …)` with `batch_first`: PyTorch's `pad_sequence`.
///
/// # Errors
/// No sequences, differing extents behind the first, dtypes, devices or tapes.
pub fn pad_sequence(sequences: &[Var], batch_first: bool, padding_value: f64) -> Result<Var> {
    const OP: &str = "pad_sequence";
    if sequences.is_empty() {
        return Err(Error::shape(OP, "no sequences", "at least one"));
    }
    let mut offsets = Vec::with_capacity(sequences.len());
    let mut rows = 0;
    for sequence in sequences {
        let Some(&length) = sequence.dims().first() else {
            return Err(Error::shape(OP, sequence.shape(), "(L, …)"));
        };
        offsets.push(rows);
        // Too many for memory: `concat` says so.
        rows = usize::saturating_add(rows, length);
    }
    let joined = Var::concat(sequences, 0)?;
    let seq = sequences.iter().map(|s| s.dims()[0]).max().unwrap_or(0);
    let row = |t: usize, b: usize| (t < sequences[b].dims()[0]).then(|| offsets[b] + t);
    padded(OP, &joined, (seq, sequences.len()), batch_first, padding_value, row)
}

/// Packs sequences `(Lᵢ, …)`: PyTorch's `pack_sequence`.
///
/// # Errors
/// As [`pad_sequence`] and [`pack_padded_sequence`].
pub fn pack_sequence(sequences: &[Var], enforce_sorted: bool) -> Result<PackedSequence> {
    let x = pad_sequence(sequences, false, 0.0)?;
    let lengths: Vec<usize> = sequences.iter().map(|s| s.dims()[0]).collect();
    pack_padded_sequence(&x, &lengths, false, enforce_sorted)
}

/// A padded batch out of the rows of `x`: the one that `row` names for step t of sequence b, or padding.
fn padded(
    op: &'static str,
    x: &Var,
    (seq, batch): (usize, usize),
    batch_first: bool,
    padding_value: f64,
    row: impl Fn(usize, usize) -> Option<usize>,
) -> Result<Var> {
    let (rows, rest) = (x.dims()[0], &x.dims()[1..]);
    // The row of padding stands behind the others.
    let at = |t, b| row(t, b).unwrap_or(rows);
    let mut order = Vec::new();
    order.try_reserve_exact(seq.saturating_mul(batch)).map_err(|_| {
        let got = format!("{seq} steps of {batch} sequences");
        Error::shape(op, got, "no more than memory holds")
    })?;
    let lead = if batch_first {
        order.extend((0..batch).flat_map(|b| (0..seq).map(move |t| (t, b))).map(|(t, b)| at(t, b)));
        [batch, seq]
    } else {
        order.extend((0..seq).flat_map(|t| (0..batch).map(move |b| (t, b))).map(|(t, b)| at(t, b)));
        [seq, batch]
    };
    let padding = order.contains(&rows).then_some(padding_value);
    take_rows(x, &[rows], rest, &order, padding, &lead)
}

/// Rows of x, seen as `(from, rest)`, with a row of `padding` behind them: those that `rows` names, as `(to, rest)`.
fn take_rows(
    x: &Var,
    from: &[usize],
    rest: &[usize],
    rows: &[usize],
    padding: Option<f64>,
    to: &[usize],
) -> Result<Var> {
    let mut table = x.reshape([from, rest].concat())?;
    if let Some(value) = padding {
        let row = Tensor::full([&[1], rest].concat(), value, x.dtype(), &x.device())?;
        table = Var::concat(&[&table, &x.tape().constant(row)], 0)?;
    }
    table.index_select(0, &index(rows, x)?)?.reshape([to, rest].concat())
}
