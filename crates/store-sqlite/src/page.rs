//! Pages of rows, newest first.

use domain::page::{Page, PageRequest};
use rusqlite::{Connection, Row};

use crate::failure::Result;

/// What ids are compared with to be below `before`: its bytes, or something beyond every id.
pub(crate) fn id_below(before: Option<u128>) -> Vec<u8> {
    before.map_or_else(|| vec![0xff; 17], |id| id.to_be_bytes().to_vec())
}

/// The page of the rows that a statement gives, of which all belong to it but one more than `limit`.
pub(crate) fn page_of_rows<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    limit: usize,
    read: impl Fn(&Row<'_>) -> Result<(u128, T)>,
) -> Result<Page<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut page = Page { items: Vec::new(), next_before: None };
    let mut last = None;
    while let Some(row) = rows.next()? {
        if page.items.len() == limit {
            page.next_before = last;
            break;
        }
        let (id, item) = read(row)?;
        last = Some(id);
        page.items.push(item);
    }
    Ok(page)
}

/// What one list call may read.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
}

/// Fills a page from rows of which not all belong to it.
pub(crate) struct Filling<T> {
    page: Page<T>,
    request: PageRequest,
    bounds: Bounds,
    rows_read: usize,
    bytes: usize,
    last_read: Option<u128>,
    last_taken: Option<u128>,
}

impl<T> Filling<T> {
    pub(crate) fn new(request: PageRequest, bounds: Bounds) -> Self {
        let page = Page { items: Vec::new(), next_before: None };
        Self { page, request, bounds, rows_read: 0, bytes: 0, last_read: None, last_taken: None }
    }

    /// Takes the next row: an item with its size in bytes, or `None` for one that does not belong
    /// to the page. Answers whether to go on.
    pub(crate) fn take(
        &mut self,
        id: u128,
        item: impl FnOnce() -> Result<Option<(T, usize)>>,
    ) -> Result<bool> {
        if self.rows_read >= self.bounds.rows_max {
            self.page.next_before = self.last_read;
            return Ok(false);
        }
        if let Some((item, bytes)) = item()? {
            self.bytes += bytes;
            let is_full = self.page.items.len() == self.request.limit;
            // The first item is given whatever its size, or no page would ever get beyond it.
            if is_full || (self.bytes > self.bounds.bytes_max && !self.page.items.is_empty()) {
                self.page.next_before = self.last_taken;
                return Ok(false);
            }
            self.page.items.push(item);
            self.last_taken = Some(id);
        }
        self.rows_read += 1;
        self.last_read = Some(id);
        Ok(true)
    }

    /// Counts other rows that were read to know whether the last one belongs to the page.
    pub(crate) fn count_rows(&mut self, rows: usize) {
        self.rows_read += rows;
    }

    pub(crate) fn finish(self) -> Page<T> {
        self.page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(
        rows: &[(u128, Option<usize>)],
        limit: usize,
        bounds: Bounds,
    ) -> (Vec<u128>, Option<u128>) {
        let mut filling = Filling::new(PageRequest { before: None, limit }, bounds);
        for (id, bytes) in rows {
            if !filling.take(*id, || Ok(bytes.map(|bytes| (*id, bytes)))).unwrap() {
                break;
            }
        }
        let page = filling.finish();
        (page.items, page.next_before)
    }

    #[test]
    fn a_page_ends_at_its_limit_its_bytes_or_the_rows_read() {
        let rows = [(9, Some(10)), (8, None), (7, Some(10)), (6, None), (5, Some(10))];
        let check = |limit, rows_max, bytes_max, items: &[u128], next| {
            let bounds = Bounds { rows_max, bytes_max };
            assert_eq!(fill(&rows, limit, bounds), (items.to_vec(), next));
        };
        check(10, 100, 100, &[9, 7, 5], None);
        check(3, 100, 100, &[9, 7, 5], None);
        check(2, 100, 100, &[9, 7], Some(7));
        check(10, 2, 100, &[9], Some(8));
        check(10, 100, 20, &[9, 7], Some(7));
        check(10, 100, 1, &[9], Some(9));
    }
}
