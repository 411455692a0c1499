//! Statements over many rows: one for a row each would spend its time on the way to the database.

use std::fmt::Write as _;

use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

use super::Tx;

/// Numbers of rows for which there is a statement. Few, so that the database keeps each of them prepared; a factor of
/// four between them, so that a batch of any size takes few.
const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// More rows in one statement would cost SQLite more than they save: it looks for the name of each value among those of
/// all others, and there is no way to it that would be saved.
const SQLITE_ROWS: usize = 16;

/// A query whose values are still to be bound.
pub(super) type Open = Query<'static, Any, AnyArguments>;

/// Most rows of one statement for the database of `tx`.
pub(super) fn most_rows(tx: &Tx) -> usize {
    if tx.backend_name() == "SQLite" { SQLITE_ROWS } else { SIZES[0] }
}

/// Cuts `rows` into pieces for which there is a statement, of `most` rows at most.
pub(super) fn pieces<T>(mut rows: &[T], most: usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= rows.len().min(most))?;
        let (piece, rest) = rows.split_at(size);
        rows = rest;
        Some(piece)
    })
}

/// `before ($1, $2), ($3, $4) after`: places for the values of so many rows. The texts are constants of this program.
pub(super) fn statement(before: &'static str, rows: usize, columns: usize, after: &'static str) -> Open {
    let mut sql = before.to_owned();
    for row in 0..rows {
        sql.push_str(if row == 0 { " (" } else { ", (" });
        for column in 1..=columns {
            let comma = if column == 1 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{comma}${}", row * columns + column);
        }
        sql.push(')');
    }
    sql.push(' ');
    sql.push_str(after);
    sqlx::query(AssertSqlSafe(sql))
}

#[cfg(test)]
mod tests {
    use sqlx::Execute as _;

    use super::*;

    #[test]
    fn pieces_are_all_rows_in_order_and_of_few_sizes() {
        let rows: Vec<usize> = (0..295).collect();
        for (most, wanted) in [(SQLITE_ROWS, vec![16; 18]), (SIZES[0], vec![256, 16, 16])] {
            let sizes: Vec<usize> = pieces(&rows, most).map(<[_]>::len).collect();
            assert_eq!(sizes, [wanted, vec![4, 1, 1, 1]].concat());
            assert_eq!(pieces(&rows, most).flatten().copied().collect::<Vec<_>>(), rows);
        }
        assert_eq!(pieces::<u8>(&[], 256).count(), 0);
    }

    #[test]
    fn every_value_has_a_place() {
        let query = statement("VALUES", 2, 2, "ORDER BY 1");
        assert_eq!(query.sql().as_str(), "VALUES ($1, $2), ($3, $4) ORDER BY 1");
    }
}
