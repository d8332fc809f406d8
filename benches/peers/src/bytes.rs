//! Queues of bytes: header and payload are copied into them. One for each writer.

use bbqueue::nicknames::GogiGui;
use bbqueue::traits::storage::BoxedSlice;

use crate::items::own;
use crate::peer::{Case, HEADER, Opened, Put, ROOM, Sink, header};

/// `rtrb`, a chunk of bytes for each record.
pub fn rtrb<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, ROOM / (HEADER + N + 2), || {
        let (mut p, mut c) = rtrb::RingBuffer::<u8>::new(ROOM);
        let put = move |payload: &[u8; N]| {
            let Ok(mut chunk) = p.write_chunk(HEADER + N) else { return false };
            let header = header();
            let (first, second) = chunk.as_mut_slices();
            if second.is_empty() {
                first[..HEADER].copy_from_slice(&header);
                first[HEADER..].copy_from_slice(payload);
            } else {
                let bytes = first.iter_mut().chain(second);
                bytes.zip(header.iter().chain(payload)).for_each(|(to, from)| *to = *from);
            }
            chunk.commit_all();
            true
        };
        let take = move |sink: &mut Sink| {
            let n = c.slots() / (HEADER + N);
            let Ok(chunk) = c.read_chunk(n * (HEADER + N)) else { return 0 };
            let (first, second) = chunk.as_slices();
            let (whole, rest) = first.split_at(first.len() / (HEADER + N) * (HEADER + N));
            whole.chunks_exact(HEADER + N).for_each(|r| sink.add(&r[HEADER..]));
            let mut second = second;
            if !rest.is_empty() {
                let mut across = [rest, second].concat();
                across.truncate(HEADER + N);
                sink.add(&across[HEADER..]);
                second = &second[HEADER + N - rest.len()..];
            }
            second.chunks_exact(HEADER + N).for_each(|r| sink.add(&r[HEADER..]));
            chunk.commit_all();
            n
        };
        (put, take)
    })
}

/// `bbqueue`, a frame for each record.
pub fn bbqueue<const N: usize>(case: Case) -> Opened<impl Put<N>> {
    own(case, ROOM / (HEADER + N + 2), || {
        let queue = GogiGui::new_with_storage(BoxedSlice::new(ROOM));
        let (p, c) = (queue.framed_producer(), queue.framed_consumer());
        let size = (HEADER + N) as u16;
        let put = move |payload: &[u8; N]| {
            let Ok(mut frame) = p.grant(size) else { return false };
            frame[..HEADER].copy_from_slice(&header());
            frame[HEADER..].copy_from_slice(payload);
            frame.commit(size);
            true
        };
        let take = move |sink: &mut Sink| {
            let mut n = 0;
            while let Ok(frame) = c.read() {
                sink.add(&frame[HEADER..]);
                frame.release();
                n += 1;
                if n == 256 {
                    break;
                }
            }
            n
        };
        (put, take)
    })
}
