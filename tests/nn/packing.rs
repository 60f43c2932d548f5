//! Packed sequences, against what PyTorch makes of the same.

use gatefold::{
    Device, Result, Tape, Tensor,
    nn::{pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence},
};

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

/// Sequence b has the numbers 10·b + t.
fn padded(lengths: &[usize], steps: usize, batch_first: bool) -> Tensor {
    let mut values = vec![f64::NAN; steps * lengths.len()];
    for (b, &length) in lengths.iter().enumerate() {
        for t in 0..length {
            values[if batch_first { b * steps + t } else { t * lengths.len() + b }] = (10 * b + t) as f64;
        }
    }
    let shape = if batch_first { [lengths.len(), steps, 1] } else { [steps, lengths.len(), 1] };
    tensor(&values, &shape)
}

/// The numbers are PyTorch's: `pack_padded_sequence(x, [2, 3, 1], enforce_sorted=False)`.
#[test]
fn packs_and_pads() -> Result<()> {
    for batch_first in [false, true] {
        let tape = Tape::new();
        let x = tape.variable(padded(&[2, 3, 1], 4, batch_first));
        let packed = pack_padded_sequence(&x, &[2, 3, 1], batch_first, false)?;
        assert_eq!(packed.data.tensor().to_vec::<f64>()?, [10.0, 0.0, 20.0, 11.0, 1.0, 12.0]);
        assert_eq!(packed.batch_sizes, [3, 2, 1]);
        assert_eq!(packed.sorted_indices.as_deref(), Some(&[1, 0, 2][..]));
        assert_eq!(packed.unsorted_indices.as_deref(), Some(&[1, 0, 2][..]));
        assert_eq!((packed.batch(), packed.lengths()), (3, vec![2, 3, 1]));

        let (y, lengths) = pad_packed_sequence(&packed, false, -1.0, None)?;
        assert_eq!((y.dims(), lengths), (&[3, 3, 1][..], vec![2, 3, 1]));
        assert_eq!(y.tensor().to_vec::<f64>()?, [0.0, 10.0, 20.0, 1.0, 11.0, -1.0, -1.0, 12.0, -1.0]);
        let (y, _) = pad_packed_sequence(&packed, true, 0.5, Some(5))?;
        assert_eq!(y.dims(), [3, 5, 1]);
        assert_eq!(y.tensor().to_vec::<f64>()?[..7], [0.0, 1.0, 0.5, 0.5, 0.5, 10.0, 11.0]);

        // The gradient of a padded position is 0, even where NaN stands.
        y.mul(&y)?.sum()?.backward()?;
        let gradient = x.grad().unwrap();
        let want = |v: f64| if v.is_nan() { 0.0 } else { 2.0 * v };
        let expected: Vec<f64> = x.tensor().to_vec::<f64>()?.into_iter().map(want).collect();
        assert_eq!(gradient.to_vec::<f64>()?, expected);
    }
    Ok(())
}

#[test]
fn equal_lengths_stay_in_order() -> Result<()> {
    let tape = Tape::new();
    let lengths = [2, 3, 2, 3, 1, 3];
    let packed = pack_padded_sequence(&tape.constant(padded(&lengths, 3, false)), &lengths, false, false)?;
    assert_eq!(packed.sorted_indices.as_deref(), Some(&[1, 3, 5, 0, 2, 4][..]));
    assert_eq!(packed.lengths(), lengths);
    let (y, _) = pad_packed_sequence(&packed, false, f64::NAN, None)?;
    let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a == b || a.is_nan() && b.is_nan());
    assert!(same(&y.tensor().to_vec()?, &padded(&lengths, 3, false).to_vec()?));

    let sorted = pack_padded_sequence(&tape.constant(padded(&[3, 2, 2], 3, false)), &[3, 2, 2], false, true)?;
    assert!(sorted.sorted_indices.is_none() && sorted.unsorted_indices.is_none());
    assert_eq!(sorted.lengths(), [3, 2, 2]);
    Ok(())
}

#[test]
fn sequences() -> Result<()> {
    let tape = Tape::new();
    let a = tape.variable(tensor(&[1.0, 2.0], &[1, 2]));
    let b = tape.variable(tensor(&[3.0, 4.0, 5.0, 6.0], &[2, 2]));
    let x = pad_sequence(&[a.clone(), b.clone()], true, 9.0)?;
    assert_eq!(x.dims(), [2, 2, 2]);
    assert_eq!(x.tensor().to_vec::<f64>()?, [1.0, 2.0, 9.0, 9.0, 3.0, 4.0, 5.0, 6.0]);
    let packed = pack_sequence(&[a.clone(), b.clone()], false)?;
    assert_eq!(packed.data.tensor().to_vec::<f64>()?, [3.0, 4.0, 1.0, 2.0, 5.0, 6.0]);
    packed.data.mul(&packed.data)?.sum()?.backward()?;
    assert_eq!(a.grad().unwrap().to_vec::<f64>()?, [2.0, 4.0]);
    assert_eq!(b.grad().unwrap().to_vec::<f64>()?, [6.0, 8.0, 10.0, 12.0]);

    // Any extents behind the first two, also none.
    let flat = tape.constant(tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2]));
    assert_eq!(pack_padded_sequence(&flat, &[1, 2], false, false)?.data.tensor().to_vec::<f64>()?, [2.0, 1.0, 4.0]);
    let deep = tape.constant(Tensor::zeros([2, 3, 4, 5], gatefold::DType::F32, &Device::Cpu)?);
    assert_eq!(pack_padded_sequence(&deep, &[2, 1, 2], false, false)?.data.dims(), [5, 4, 5]);
    Ok(())
}
