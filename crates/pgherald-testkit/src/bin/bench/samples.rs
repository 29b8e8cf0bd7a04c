//! What was measured many times.

/// Values in ascending order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// The median; 0 of nothing.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The value below which this part of them lies: 0.99 for the 99th percentile. 0 of nothing.
    pub(crate) fn at(&self, part: f64) -> f64 {
        let index = (self.0.len() as f64 * part) as usize;
        self.0.get(index.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_values() {
        let samples: Samples = (0..1000).rev().map(f64::from).collect();
        assert_eq!((samples.median(), samples.at(0.99), samples.at(0.999)), (500.0, 990.0, 999.0));
        assert_eq!(samples.at(1.0), 999.0);
        assert_eq!([3.0, 1.0, 2.0].into_iter().collect::<Samples>().median(), 2.0);
        assert_eq!(Samples::default().at(0.5), 0.0);
    }
}
