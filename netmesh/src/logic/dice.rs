//! Dice for a world without chance: splitmix64, all from one seed.

use crate::id::ServiceName;

/// A stream of numbers that looks random and is the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that roll as `seed` says.
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number. Source: Steele, Lea and Flood, “Fast splittable pseudorandom number generators”, 2014.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Eight letters and digits, as update IDs and ephemeral services have them.
    pub(crate) fn name(&mut self) -> [u8; 8] {
        const SIGNS: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut roll = self.roll();
        std::array::from_fn(|_| {
            let sign = SIGNS[(roll % 62) as usize];
            roll /= 62;
            sign
        })
    }

    /// A service name that nobody else has, most likely.
    pub(crate) fn service(&mut self) -> ServiceName {
        ServiceName::from_wire(self.name())
    }

    /// The same as text.
    pub(crate) fn text(&mut self) -> String {
        self.name().iter().map(|sign| char::from(*sign)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_seed_rolls_equal_names() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        assert_eq!(one.text(), two.text());
        assert_ne!(one.text(), one.text());
    }
}
