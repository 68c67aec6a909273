//! What a scalar means by the rules of YAML 1.1, as the reader that Receptor uses applies them.

/// What a scalar without quotes stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    /// Between the least signed and the largest unsigned number of 64 bits.
    Int(i128),
    Float(f64),
    Text,
}

/// Says what `text`, which had no quotes, stands for.
pub(super) fn resolve(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Plain::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Plain::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Plain::Text;
    }
    let digits = text.replace('_', "");
    integer(&digits).map(Plain::Int).or_else(|| float(&digits).map(Plain::Float)).unwrap_or(Plain::Text)
}

/// The integer that `text` writes: decimal, or `0x`, `0o`, `0b`, or octal after a leading `0`.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_str() {
        "0" => (10, "0"),
        other => match other.get(..2) {
            Some("0x") => (16, &other[2..]),
            Some("0o") => (8, &other[2..]),
            Some("0b") => (2, &other[2..]),
            _ if other.starts_with('0') => (8, &other[1..]),
            _ => (10, other),
        },
    };
    // A second sign is no digit, though the parser below would take it.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -value } else { value };
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value).then_some(value)
}

/// The decimal number that `text` writes, in digits with an optional fraction and exponent.
pub(super) fn float(text: &str) -> Option<f64> {
    let numeric = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'));
    let value: f64 = text.parse().ok()?;
    (numeric && value.is_finite()).then_some(value)
}

/// The truth value that quoted text writes.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "Y" | "true" | "TRUE" | "True" | "yes" | "Yes" | "YES" => Some(true),
        "0" | "f" | "F" | "N" | "false" | "FALSE" | "False" | "no" | "No" | "NO" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        for (text, meaning) in [
            ("~", Plain::Null),
            ("yes", Plain::Bool(true)),
            ("Off", Plain::Bool(false)),
            ("n", Plain::Bool(false)),
            ("0", Plain::Int(0)),
            ("-12", Plain::Int(-12)),
            ("+5", Plain::Int(5)),
            ("0660", Plain::Int(0o660)),
            ("0o660", Plain::Int(0o660)),
            ("0x1F", Plain::Int(31)),
            ("0b101", Plain::Int(5)),
            ("27_199", Plain::Int(27199)),
            ("08", Plain::Float(8.0)),
            ("1.5", Plain::Float(1.5)),
            (".5", Plain::Float(0.5)),
            ("1e3", Plain::Float(1000.0)),
            ("18446744073709551616", Plain::Float(18446744073709551616.0)),
            ("2030-01-01T00:00:00Z", Plain::Text),
            ("1.2.3", Plain::Text),
            ("--5", Plain::Text),
            ("-", Plain::Text),
            ("0x", Plain::Text),
            ("nan", Plain::Text),
            ("yEs", Plain::Text),
        ] {
            assert_eq!(resolve(text), meaning, "{text}");
        }
    }

    #[test]
    fn quoted_truth_has_spellings_of_its_own() {
        assert_eq!(
            (boolean("Yes"), boolean("0"), boolean("on"), boolean("y")),
            (Some(true), Some(false), None, None)
        );
    }
}
