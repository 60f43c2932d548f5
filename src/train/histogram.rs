//! Histograms as TensorBoard keeps them.

use super::proto::Message;

/// How many values lie below each of some limits, and their moments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Histogram {
    min: f64,
    max: f64,
    count: f64,
    sum: f64,
    sum_squares: f64,
    /// The upper end of each bucket, which it does not hold, but for the last.
    limits: Vec<f64>,
    counts: Vec<f64>,
}

/// Buckets of equal width. TensorBoard shows 30.
const BUCKETS: usize = 60;

impl Histogram {
    /// Of the finite values, `None` if there are none, and how many are not finite.
    pub fn of(values: &[f64]) -> (Option<Self>, usize) {
        let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let left_out = values.len() - finite.len();
        if finite.is_empty() {
            return (None, left_out);
        }
        let (min, max) = finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        // Both ends in their parts: the range of finite numbers need not be finite.
        let limit = |part: f64| (min * (1.0 - part) + max * part).clamp(min, max);
        let mut limits: Vec<f64> = (1..=BUCKETS).map(|i| limit(i as f64 / BUCKETS as f64)).collect();
        // Between neighbouring numbers rounding may change the order.
        limits.sort_by(f64::total_cmp);
        limits.dedup();
        let mut counts = vec![0.0; limits.len()];
        let last = limits.len() - 1;
        for &value in &finite {
            counts[limits.partition_point(|&limit| limit <= value).min(last)] += 1.0;
        }
        let histogram = Histogram {
            min,
            max,
            count: finite.len() as f64,
            sum: finite.iter().sum(),
            sum_squares: finite.iter().map(|value| value * value).sum(),
            limits,
            counts,
        };
        (Some(histogram), left_out)
    }

    /// `HistogramProto`.
    pub fn message(&self) -> Message {
        let moments = [self.min, self.max, self.count, self.sum, self.sum_squares];
        let message = (1..).zip(moments).fold(Message::new(), |message, (field, value)| message.double(field, value));
        message.doubles(6, &self.limits).doubles(7, &self.counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets() {
        let (histogram, left_out) = Histogram::of(&[0.0, 1.0, 59.0, 60.0, 60.0, f64::NAN, f64::INFINITY]);
        let histogram = histogram.unwrap();
        assert_eq!((histogram.min, histogram.max, histogram.count, left_out), (0.0, 60.0, 5.0, 2));
        assert_eq!((histogram.sum, histogram.sum_squares), (180.0, 1.0 + 59.0 * 59.0 + 2.0 * 3600.0));
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[59]), (1.0, 1.0, 3.0));
        let one = Histogram::of(&[2.0; 7]).0.unwrap();
        assert_eq!((one.limits, one.counts), (vec![2.0], vec![7.0]));
        assert_eq!(Histogram::of(&[f64::NAN]), (None, 1));
    }

    proptest! {
        #[test]
        fn every_value_is_in_a_bucket(values in proptest::collection::vec(any::<f64>(), 1..100)) {
            if let (Some(histogram), left_out) = Histogram::of(&values) {
                prop_assert_eq!(histogram.counts.iter().sum::<f64>() as usize, values.len() - left_out);
                prop_assert!(histogram.limits.is_sorted());
                prop_assert_eq!(histogram.limits.last(), Some(&histogram.max));
            }
        }
    }
}
