//! What a verifier before 5.3 knows of a number: bounds, and which bits are certain.
//! The rules are those of `adjust_scalar_min_max_vals()` and `reg_set_min_max()` in
//! kernel/bpf/verifier.c of 4.15 and 4.19, and of kernel/bpf/tnum.c.

/// Bits that are certain, and which ones are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits {
    pub value: u64,
    pub mask: u64,
}

impl Bits {
    const UNKNOWN: Bits = Bits {
        value: 0,
        mask: u64::MAX,
    };

    fn exactly(value: u64) -> Bits {
        Bits { value, mask: 0 }
    }

    fn of_range(least: u64, most: u64) -> Bits {
        match u64::BITS - (least ^ most).leading_zeros() {
            64 => Bits::UNKNOWN,
            bits => {
                let mask = (1 << bits) - 1;
                Bits {
                    value: least & !mask,
                    mask,
                }
            }
        }
    }

    fn add(self, other: Bits) -> Bits {
        let (masks, values) = (
            self.mask.wrapping_add(other.mask),
            self.value.wrapping_add(other.value),
        );
        let mask = (masks.wrapping_add(values) ^ values) | self.mask | other.mask;
        Bits {
            value: values & !mask,
            mask,
        }
    }

    fn subtract(self, other: Bits) -> Bits {
        let difference = self.value.wrapping_sub(other.value);
        let (above, below) = (
            difference.wrapping_add(self.mask),
            difference.wrapping_sub(other.mask),
        );
        let mask = (above ^ below) | self.mask | other.mask;
        Bits {
            value: difference & !mask,
            mask,
        }
    }

    fn and(self, other: Bits) -> Bits {
        let value = self.value & other.value;
        Bits {
            value,
            mask: (self.value | self.mask) & (other.value | other.mask) & !value,
        }
    }

    fn or(self, other: Bits) -> Bits {
        let value = self.value | other.value;
        Bits {
            value,
            mask: (self.mask | other.mask) & !value,
        }
    }

    fn multiply(self, other: Bits) -> Bits {
        let sum = |mut sum: Bits, mut mask: u64, mut by: u64| {
            while by != 0 {
                if by & 1 != 0 {
                    sum = sum.add(Bits { value: 0, mask });
                }
                by >>= 1;
                mask <<= 1;
            }
            sum
        };
        let certain = Bits::exactly(self.value.wrapping_mul(other.value));
        let sum_of_left = sum(certain, self.mask, other.mask | other.value);
        sum(sum_of_left, other.mask, self.value)
    }

    fn shift(self, left: bool, by: u32) -> Bits {
        let shift = |word: u64| if left { word << by } else { word >> by };
        Bits {
            value: shift(self.value),
            mask: shift(self.mask),
        }
    }

    fn intersect(self, other: Bits) -> Bits {
        let value = self.value | other.value;
        let mask = self.mask & other.mask;
        Bits {
            value: value & !mask,
            mask,
        }
    }

    fn low(self, mask: u64) -> Bits {
        Bits {
            value: self.value & mask,
            mask: self.mask & mask,
        }
    }

    fn holds(self, other: Bits) -> bool {
        other.mask & !self.mask == 0 && self.value == other.value & !self.mask
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar {
    pub least: u64,
    pub most: u64,
    pub signed_least: i64,
    pub signed_most: i64,
    pub bits: Bits,
}

/// Binary operations of which something is known afterward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    And,
    Or,
    Left,
    Right,
    /// Any other: nothing is known.
    Other,
}

/// Comparisons, without a sign where that is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Above,
    AtLeast,
    Below,
    AtMost,
    SignedAbove,
    SignedAtLeast,
    SignedBelow,
    SignedAtMost,
    /// Of bits: nothing is learned.
    Set,
}

impl Scalar {
    pub const UNKNOWN: Scalar = Scalar {
        least: 0,
        most: u64::MAX,
        signed_least: i64::MIN,
        signed_most: i64::MAX,
        bits: Bits::UNKNOWN,
    };

    pub fn exactly(value: u64) -> Scalar {
        Scalar {
            least: value,
            most: value,
            signed_least: value.cast_signed(),
            signed_most: value.cast_signed(),
            bits: Bits::exactly(value),
        }
    }

    pub fn constant(&self) -> Option<u64> {
        (self.bits.mask == 0).then_some(self.bits.value)
    }

    /// Whether all that `other` may be is known to be possible here.
    pub fn covers(&self, other: &Scalar) -> bool {
        self.least <= other.least
            && self.most >= other.most
            && self.signed_least <= other.signed_least
            && self.signed_most >= other.signed_most
            && self.bits.holds(other.bits)
    }

    /// Bounds that contradict each other come from branches that are never taken.
    fn is_absurd(&self) -> bool {
        self.signed_least > self.signed_most
            || self.least > self.most
            || (self.bits.mask == 0 && self.least != self.most)
    }

    fn bounds_by_bits(&mut self) {
        let Bits { value, mask } = self.bits;
        let sign = i64::MIN.cast_unsigned();
        self.signed_least = self.signed_least.max((value | (mask & sign)).cast_signed());
        self.signed_most = self.signed_most.min((value | (mask & !sign)).cast_signed());
        self.least = self.least.max(value);
        self.most = self.most.min(value | mask);
    }

    fn bounds_by_sign(&mut self) {
        let both = |scalar: &mut Scalar, least: u64, most: u64| {
            scalar.least = least;
            scalar.most = most;
            scalar.signed_least = least.cast_signed();
            scalar.signed_most = most.cast_signed();
        };
        let (least, most) = (
            self.signed_least.cast_unsigned(),
            self.signed_most.cast_unsigned(),
        );
        if self.signed_least >= 0 || self.signed_most < 0 {
            both(self, self.least.max(least), self.most.min(most));
        } else if self.most.cast_signed() >= 0 {
            self.signed_least = self.least.cast_signed();
            self.signed_most = self.most.min(most).cast_signed();
            self.most = self.signed_most.cast_unsigned();
        } else if self.least.cast_signed() < 0 {
            self.signed_least = self.least.max(least).cast_signed();
            self.least = self.signed_least.cast_unsigned();
            self.signed_most = self.most.cast_signed();
        }
    }

    fn settle(&mut self) {
        self.bounds_by_sign();
        let range = Bits::of_range(self.least, self.most);
        self.bits = self.bits.intersect(range);
    }

    /// What loads and operations of fewer bytes leave.
    pub fn narrowed(mut self, bytes: u32) -> Scalar {
        if bytes == 8 {
            return self;
        }
        let mask = (1u64 << (bytes * 8)) - 1;
        self.bits = self.bits.low(mask);
        if self.least & !mask == self.most & !mask {
            self.least &= mask;
            self.most &= mask;
        } else {
            self.least = 0;
            self.most = mask;
        }
        self.signed_least = self.least.cast_signed();
        self.signed_most = self.most.cast_signed();
        self
    }

    /// `self op other` in 64 or 32 bits.
    pub fn combined(mut self, operation: Operation, other: &Scalar, is_wide: bool) -> Scalar {
        let is_certain = other.bits.mask == 0;
        let may_vary = matches!(
            operation,
            Operation::Add | Operation::Subtract | Operation::And
        );
        if other.is_absurd() || !(is_certain || may_vary) {
            return Scalar::UNKNOWN;
        }
        let is_bound = match operation {
            Operation::Add => self.add(other),
            Operation::Subtract => self.subtract(other),
            Operation::Multiply => self.multiply(other),
            Operation::And | Operation::Or => self.mask(operation, other),
            Operation::Left | Operation::Right => {
                let width = if is_wide { 64 } else { 32 };
                other.most < width && self.shift(operation == Operation::Left, other.most as u32)
            }
            Operation::Other => false,
        };
        if !is_bound {
            self = Scalar::UNKNOWN;
        }
        if !is_wide {
            self = self.narrowed(4);
        }
        self.settle();
        self
    }

    fn add(&mut self, other: &Scalar) -> bool {
        let signed = (
            self.signed_least.checked_add(other.signed_least),
            self.signed_most.checked_add(other.signed_most),
        );
        let plain = (
            self.least.checked_add(other.least),
            self.most.checked_add(other.most),
        );
        self.take(signed, plain);
        self.bits = self.bits.add(other.bits);
        true
    }

    fn subtract(&mut self, other: &Scalar) -> bool {
        let signed = (
            self.signed_least.checked_sub(other.signed_most),
            self.signed_most.checked_sub(other.signed_least),
        );
        let plain = (
            self.least.checked_sub(other.most),
            self.most.checked_sub(other.least),
        );
        self.take(signed, plain);
        self.bits = self.bits.subtract(other.bits);
        true
    }

    fn multiply(&mut self, other: &Scalar) -> bool {
        let half = u64::from(u32::MAX);
        let are_small = self.most <= half && other.most <= half;
        let are_positive = self.signed_least >= 0 && other.signed_least >= 0;
        let bits = self.bits.multiply(other.bits);
        if !are_small || !are_positive {
            *self = Scalar::UNKNOWN;
            self.bits = bits;
            self.bounds_by_bits();
            return true;
        }
        self.bits = bits;
        self.least *= other.least;
        self.most *= other.most;
        (self.signed_least, self.signed_most) = match i64::try_from(self.most) {
            Ok(most) => (self.least.cast_signed(), most),
            Err(_) => (i64::MIN, i64::MAX),
        };
        true
    }

    fn take(&mut self, signed: (Option<i64>, Option<i64>), plain: (Option<u64>, Option<u64>)) {
        (self.signed_least, self.signed_most) = match signed {
            (Some(least), Some(most)) => (least, most),
            _ => (i64::MIN, i64::MAX),
        };
        (self.least, self.most) = match plain {
            (Some(least), Some(most)) => (least, most),
            _ => (0, u64::MAX),
        };
    }

    fn mask(&mut self, operation: Operation, other: &Scalar) -> bool {
        let are_positive = self.signed_least >= 0 && other.signed_least >= 0;
        if operation == Operation::And {
            self.bits = self.bits.and(other.bits);
            self.least = self.bits.value;
            self.most = self.most.min(other.most);
        } else {
            self.bits = self.bits.or(other.bits);
            self.least = self.least.max(other.least);
            self.most = self.bits.value | self.bits.mask;
        }
        (self.signed_least, self.signed_most) = match are_positive {
            true => (self.least.cast_signed(), self.most.cast_signed()),
            false => (i64::MIN, i64::MAX),
        };
        if self.bits.mask == 0 {
            *self = Scalar::exactly(self.bits.value);
        }
        self.bounds_by_bits();
        true
    }

    fn shift(&mut self, left: bool, by: u32) -> bool {
        (self.signed_least, self.signed_most) = (i64::MIN, i64::MAX);
        self.bits = self.bits.shift(left, by);
        if !left {
            self.least >>= by;
            self.most >>= by;
        } else if self.most > 1 << (63 - by) {
            (self.least, self.most) = (0, u64::MAX);
        } else {
            self.least <<= by;
            self.most <<= by;
        }
        self.bounds_by_bits();
        true
    }

    /// What is known where the comparison with a constant holds, and where it does not.
    pub fn compared(self, comparison: Comparison, with: u64) -> (Scalar, Scalar) {
        let (mut holds, mut fails) = (self, self);
        let signed = with.cast_signed();
        match comparison {
            Comparison::Equal => holds = Scalar::exactly(with),
            Comparison::Above => {
                fails.most = fails.most.min(with);
                holds.least = holds.least.max(with.wrapping_add(1));
            }
            Comparison::AtLeast => {
                fails.most = fails.most.min(with.wrapping_sub(1));
                holds.least = holds.least.max(with);
            }
            Comparison::Below => {
                fails.least = fails.least.max(with);
                holds.most = holds.most.min(with.wrapping_sub(1));
            }
            Comparison::AtMost => {
                fails.least = fails.least.max(with.wrapping_add(1));
                holds.most = holds.most.min(with);
            }
            Comparison::SignedAbove => {
                fails.signed_most = fails.signed_most.min(signed);
                holds.signed_least = holds.signed_least.max(signed.wrapping_add(1));
            }
            Comparison::SignedAtLeast => {
                fails.signed_most = fails.signed_most.min(signed.wrapping_sub(1));
                holds.signed_least = holds.signed_least.max(signed);
            }
            Comparison::SignedBelow => {
                fails.signed_least = fails.signed_least.max(signed);
                holds.signed_most = holds.signed_most.min(signed.wrapping_sub(1));
            }
            Comparison::SignedAtMost => {
                fails.signed_least = fails.signed_least.max(signed.wrapping_add(1));
                holds.signed_most = holds.signed_most.min(signed);
            }
            Comparison::Set => return (self, self),
        }
        for one in [&mut holds, &mut fails] {
            one.settle();
            one.bounds_by_bits();
        }
        (holds, fails)
    }
}
