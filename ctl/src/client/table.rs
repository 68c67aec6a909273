//! Text in columns.

/// Lays out `rows` below `heads`: each column as wide as its widest cell, two spaces between, none at the end.
///
/// Returns lines, each with its line feed; nothing at all without rows. A column that is empty in every row is left
/// out. Width is counted in characters.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let kept: Vec<usize> = (0..N).filter(|i| rows.iter().any(|row| !row[*i].is_empty())).collect();
    let heads: [String; N] = heads.map(str::to_owned);
    let lines: Vec<&[String; N]> = std::iter::once(&heads).chain(rows).collect();
    let width = |i: usize| lines.iter().map(|line| line[i].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = kept.iter().map(|&i| format!("{:<1$}", line[i], width(i))).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(cells: [&str; N]) -> [String; N] {
        cells.map(str::to_owned)
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row(["a", "1", ""]), row(["größer-node", "10", "x"])];
        assert_eq!(
            table(["Node", "Cost", "Via"], &rows),
            "Node         Cost  Via\na            1\ngrößer-node  10    x\n"
        );
    }

    #[test]
    fn what_is_empty_everywhere_is_left_out() {
        assert_eq!(table(["Node", "Backend"], &[row(["a", ""])]), "Node\na\n");
        assert_eq!(table(["Node"], &[]), "");
    }
}
