//! Where in a ring of buffers which stream's entries lie. Numbers only: no buffer is touched.
//!
//! The buffers are cut into pages; a stream has a list of them, in time, and fills its last
//! one. Where no page is free, that page goes whose newest entry is older than those of all
//! others that begin a stream's list: what is left always is the newest of each stream, and a
//! stream in which little happens does not lose it to one in which much does.

use std::collections::VecDeque;

use super::Run;

/// Room for entries of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which of the buffers.
    pub buffer: usize,
    /// The first entry in it.
    pub first: u32,
    /// How many.
    pub len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    id: u32,
    len: u32,
    begin: u64,
    end: u64,
    /// The batch that last wrote to it.
    batch: u64,
    /// How many pages had been taken before it.
    number: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Index {
    /// Entries of a page, and pages of a buffer.
    page: u32,
    per_buffer: u32,
    pages: u32,
    free: Vec<u32>,
    streams: Vec<VecDeque<Page>>,
    batch: u64,
    taken: u64,
    overwritten: u64,
}

impl Index {
    /// `pages` pages of `page` entries in buffers of `per_buffer` pages. All are at least 1.
    #[must_use]
    pub fn new(page: u32, per_buffer: u32, pages: u32) -> Self {
        let (page, per_buffer, pages) = (page.max(1), per_buffer.max(1), pages.max(1));
        // The first is taken first: what is not used is not touched.
        let free = (0..pages).rev().collect();
        let streams = Vec::new();
        Self { page, per_buffer, pages, free, streams, batch: 0, taken: 0, overwritten: 0 }
    }
    /// Entries that it has room for.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        u64::from(self.page) * u64::from(self.pages)
    }
    /// Streams that have been placed, whether they still have entries or not.
    #[must_use]
    pub fn streams(&self) -> u32 {
        self.streams.len() as u32
    }
    /// Entries that are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.streams.iter().flatten().map(|p| u64::from(p.len)).sum()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Entries that were overwritten by newer ones, or forgotten.
    #[must_use]
    pub fn overwritten(&self) -> u64 {
        self.overwritten
    }

    /// Pages that were ever taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }
    /// Whether some of the first `n` pages that were ever taken still have their entries.
    pub(super) fn has_of_first(&self, n: u64) -> bool {
        self.streams.iter().flatten().any(|p| p.number < n)
    }

    /// What has been placed by now is written before what comes: its pages may be taken again.
    pub fn next_batch(&mut self) {
        self.batch += 1;
    }

    /// Room for the next entries of a stream, `want` or fewer of them (at least one, unless
    /// none are wanted), with times from `begin` to `end`. `None`: only pages of this batch
    /// could be taken.
    pub fn place(&mut self, stream: u32, want: u32, begin: u64, end: u64) -> Option<Part> {
        let stream = stream as usize;
        if stream >= self.streams.len() {
            self.streams.resize(stream + 1, VecDeque::new());
        }
        if want == 0 {
            return Some(Part { buffer: 0, first: 0, len: 0 });
        }
        let full = |p: &Page| p.len == self.page;
        if self.streams[stream].back().is_none_or(full) {
            let id = match self.free.pop() {
                Some(id) => id,
                None => self.take_oldest()?,
            };
            let page = Page { id, len: 0, begin, end, batch: self.batch, number: self.taken };
            self.taken += 1;
            self.streams[stream].push_back(page);
        }
        let (size, batch) = (self.page, self.batch);
        let page = self.streams[stream].back_mut()?;
        let len = want.min(size - page.len);
        let first = page.id % self.per_buffer * size + page.len;
        page.len += len;
        page.begin = page.begin.min(begin);
        page.end = page.end.max(end);
        page.batch = batch;
        Some(Part { buffer: (page.id / self.per_buffer) as usize, first, len })
    }

    fn take_oldest(&mut self) -> Option<u32> {
        let batch = self.batch;
        let fronts =
            self.streams.iter_mut().filter(|s| s.front().is_some_and(|p| p.batch != batch));
        let oldest = fronts.min_by_key(|s| s.front().map(|p| p.end))?;
        let page = oldest.pop_front()?;
        self.overwritten += u64::from(page.len);
        Some(page.id)
    }

    /// Lets pages go all of whose entries are earlier.
    pub fn forget(&mut self, before: u64) {
        for stream in &mut self.streams {
            while stream.front().is_some_and(|p| p.end < before) {
                let Some(page) = stream.pop_front() else { break };
                self.overwritten += u64::from(page.len);
                self.free.push(page.id);
            }
        }
    }

    /// All entries, stream after stream: the row is the stream.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (row, pages) in (0u32..).zip(&self.streams) {
            for page in pages {
                let buffer = (page.id / self.per_buffer) as usize;
                let first = page.id % self.per_buffer * self.page;
                let (len, begin, end) = (page.len, page.begin, page.end);
                match runs.last_mut() {
                    Some(r) if r.row == row && r.buffer == buffer && r.first + r.len == first => {
                        r.len += len;
                        r.end = r.end.max(end);
                    }
                    _ => runs.push(Run { buffer, first, len, begin, end, row }),
                }
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_stream_is_kept() {
        let mut index = Index::new(10, 2, 4);
        let mut place = |stream, want, time| {
            index.next_batch();
            index.place(stream, want, time, time).unwrap()
        };
        assert_eq!(place(0, 4, 1), Part { buffer: 0, first: 0, len: 4 });
        assert_eq!(place(1, 3, 2), Part { buffer: 0, first: 10, len: 3 });
        assert_eq!(place(0, 100, 3), Part { buffer: 0, first: 4, len: 6 });
        assert_eq!(place(0, 100, 4), Part { buffer: 1, first: 0, len: 10 });
        assert_eq!(place(0, 100, 5), Part { buffer: 1, first: 10, len: 10 });
        // Stream 1 has one page, begun early: it is newer than stream 0's first.
        assert_eq!(place(1, 1, 6), Part { buffer: 0, first: 13, len: 1 });
        assert_eq!(place(0, 2, 7), Part { buffer: 0, first: 0, len: 2 });
        assert_eq!((index.overwritten(), index.len()), (10, 26));
        let run = |buffer, first, len, begin, end, row| Run { buffer, first, len, begin, end, row };
        let both = [run(1, 0, 20, 4, 5, 0), run(0, 0, 2, 7, 7, 0), run(0, 10, 4, 2, 6, 1)];
        assert_eq!(index.runs(), both);
        index.forget(5);
        assert_eq!(index.runs()[0], run(1, 10, 10, 5, 5, 0));
    }

    #[test]
    fn no_page_is_taken_twice_in_a_batch() {
        let mut index = Index::new(10, 2, 2);
        for _ in 0..2 {
            assert!(index.place(0, 10, 1, 1).is_some());
        }
        assert_eq!(index.place(0, 10, 1, 1), None);
        assert_eq!(index.place(1, 10, 1, 1), None);
        index.next_batch();
        assert!(index.place(0, 10, 1, 1).is_some());
    }
}
