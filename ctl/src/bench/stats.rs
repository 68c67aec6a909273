//! What many measured values come to: a figure.

use serde::Serialize;

/// One figure: the median of several rounds, and how far apart they were.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Figure {
    /// What stands in the table.
    pub(super) value: f64,
    /// The least of the rounds.
    pub(super) low: f64,
    /// The greatest of them.
    pub(super) high: f64,
    /// How many there were.
    pub(super) rounds: usize,
}

impl Figure {
    /// The median of `rounds`; `None` without any.
    pub(super) fn median(rounds: &[f64]) -> Option<Figure> {
        Figure::quantile(rounds, 0.5)
    }

    /// The value that a share of `q` of the rounds does not exceed; of few rounds a high one is their greatest.
    pub(super) fn quantile(rounds: &[f64], q: f64) -> Option<Figure> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let value = match q == 0.5 && sorted.len().is_multiple_of(2) {
            true => f64::midpoint(sorted[sorted.len() / 2 - 1], sorted[sorted.len() / 2]),
            false => sorted[((sorted.len() as f64 * q) as usize).min(sorted.len() - 1)],
        };
        Some(Figure { value, low, high, rounds: sorted.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(rounds: &[f64], q: f64) -> f64 {
        Figure::quantile(rounds, q).unwrap().value
    }

    #[test]
    fn half_of_the_rounds_are_below_the_median() {
        assert_eq!(Figure::median(&[]), None);
        assert_eq!(value(&[3.0], 0.5), 3.0);
        assert_eq!(value(&[9.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(value(&[4.0, 1.0, 2.0, 9.0], 0.5), 3.0);
    }

    #[test]
    fn a_high_quantile_of_few_rounds_is_their_greatest() {
        assert_eq!(value(&[1.0, 2.0, 3.0], 0.99), 3.0);
        let hundred: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(value(&hundred, 0.99), 199.0);
    }

    #[test]
    fn a_figure_says_how_far_apart_its_rounds_were() {
        let figure = Figure::median(&[2.0, 1.0, 7.0]).unwrap();
        assert_eq!(figure, Figure { value: 2.0, low: 1.0, high: 7.0, rounds: 3 });
    }
}
