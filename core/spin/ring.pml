/* One stream of the ring as core/src/frontend has it: reserve, commit, deliver, get and put
 * by exchange, switch, flush, finalise, pass over, last words. Steps that others can see are
 * steps here; the code they stand for is named. What is not here, and how to run it: README.md.
 *
 * Every step is atomic and sequentially consistent (orderings: the loom models). A packet
 * header takes no room: header room and record are one reservation in the code, too.
 *
 * Parameters (-D):
 *   OVERWRITE     overwrite mode; without it: discard
 *   K=1..3        memories that the reader owns     NW, NE   writers, records of each
 *   NSB, SB       sub-buffers, bytes in each        NSW      forced switches by others
 *   NE0           records of writer 0, where others
 *   SIZE, TWO     bytes of a record; TWO: 1 or 2
 *   START=p       positions begin at p (a multiple of NSB*SB); they wrap at PM
 *   FLUSH=n       the reader may n times switch, and n times make an empty packet
 *   SNAPSHOT=n    the reader may make n snapshots (snapshot.rs)
 *   RACE          the reader finalises at any time (else when all writers have ended)
 *   TIMEOUT       with RACE: it may cease to wait for what is open, and pass over it
 *   CRASH         the reader may die once between exchange and `consumed`, and starts again
 *   LIVE, LIVE_READER_STOPS, LIVE_WRITER_STOPS, LIVE_NO_READER   progress, see the end
 *   INJ_...       planted bugs: the file `bugs`
 */
#ifndef K
#define K 1
#endif
#ifndef NW
#define NW 2
#endif
#ifndef NE
#define NE 3
#endif
#ifndef NE0
#define NE0 NE
#endif
#ifndef NSB
#define NSB 2
#endif
#ifndef SB
#define SB 2
#endif
#ifndef SIZE
#define SIZE 1
#endif
#ifndef NSW
#define NSW 0
#endif
#ifndef START
#define START 0
#endif
#ifndef SNAPSHOT
#define SNAPSHOT 0
#endif
#ifndef FLUSH
#define FLUSH 0
#endif
#define NACT (NW+NSW)                  /* who may stand in a sub-buffer, but the reader */
#define NM   (NSB+K)                   /* memories */
#define BUF  (NSB*SB)

/* ---- claims: an assertion's text, and so pan's error, holds the claim's name ---- */
#define CLAIM(name, c) assert(name || (c))
hidden byte I1_range;       /* no byte is granted twice in a lap; a lap has no more than S */
hidden byte I2_owner;       /* no writer in a memory of the reader's; each memory in one place */
hidden byte I3_complete;    /* a packet that the reader has: all its records, no other, and still */
hidden byte I3_facts;       /* the facts that a deliverer finds are this lap's */
hidden byte I4_deliverer;   /* one deliverer for each lap, alone until `delivered` is complete */
hidden byte I5_lap;         /* the reader gets the lap that it asked for, in order */
hidden byte I6_lost;        /* cumulative losses never decrease from packet to packet */
hidden byte I7_offered;     /* offered = recorded + lost.full + lost.wrap (given up: wrap) */
hidden byte I7_recorded;    /* recorded = read + overwritten + kept */
hidden byte I7_ahead;      /* what was read was recorded before */
hidden byte I7_told;        /* the last packet tells all losses */
hidden byte I8_full;        /* `full` only when all N sub-buffers are reserved and not taken */
hidden byte I8_newest;      /* at the end all that is in the ring is read */
#if SNAPSHOT > 0
hidden byte I8_snapshot;   /* a snapshot is one run without a gap; when nobody writes, all of it */
#endif
hidden byte I9_wrap;        /* `wrap` only while somebody stands in that sub-buffer */
hidden byte I10_bound;      /* discard: write_pos - consumed <= B */
hidden byte I13_no_grant;   /* finalised: no grant; the last sub-buffer is closed */
hidden byte I13_readable;   /* finalised and settled: all that is reserved can be taken */
hidden byte I13_given_up;   /* a sub-buffer that was given up is never delivered */

/* ---- position.rs ---- */
#define PM       64                    /* positions are modulo this; above it: finalised */
#define FINAL    PM
#define POS(w)   ((w) & (PM-1))
#define IS_FINAL(w) (((w) & FINAL) != 0)
#define PLUS(p,n)  (((p)+(n)) % PM)
#define MINUS(p,n) (((p)+PM-(n)) % PM)
#define FROM(a,b)  ((((a)-(b)+PM+PM/2) % PM) - PM/2)     /* signed */
#define OFFSET(p)  ((p) % SB)
#define BEGIN(p)   ((p) - OFFSET(p))                     /* Geometry::start */
#define NEXT(p)    PLUS(BEGIN(p), SB)
#define INDEX(p)   (((p)/SB) % NSB)
#define LAP(p)     ((p)/BUF)
#define BEFORE(p)  (LAP(p)*SB)                           /* `delivered` before p's lap */
#define COMPLETE(p) ((BEFORE(p)+SB) % (PM/NSB))          /* … and after it; even: SB is */

/* committed[i]: bytes modulo CM, records of this lap in the low bits; one word, one add */
#define RBITS    3
#define RECORDS  7
#define CM       16                    /* 4 SB <= CM <= PM/NSB, as 2^40 is to 2^63/N */
#define CWORDS   (CM << RBITS)
#define BYTES_SINCE(c,d) ((((c) >> RBITS) + PM - (d)) % CM)

/* ---- subbuf_id.rs ---- */
#define NOREF    8
#define TAKEN    16
#define MEM(id)  ((id) & 7)
#define LAP_OF(id) ((id) >> 5)
#define IS_NOREF(id) (((id) & NOREF) != 0)
#define IS_TAKEN(id) (((id) & TAKEN) != 0)
#ifdef INJ_NO_LAP                      /* the 2010 mail: pointer and noref, no lap */
#define DELIVERED_ID(lap,m) (NOREF | (m))
#define LAP_FITS(id,p) 1
#else
#define DELIVERED_ID(lap,m) ((lap) << 5 | NOREF | (m))
#ifdef INJ_LAP_UNSEEN
#define LAP_FITS(id,p) 1
#else
#define LAP_FITS(id,p) (LAP_OF(id) == LAP(p))
#endif
#endif
#define TAKEN_ID(m) (TAKEN | NOREF | (m))

/* ---- shared words (mod.rs) ---- */
byte  write_pos, consumed;
byte  committed[NSB], delivered[NSB];
short table[NSB];
byte  fact_begin[NSB], fact_content_end[NSB], fact_lost[NSB];
byte  packet_start[NM], packet_content[NM], packet_lost[NM], packet_records[NM];
byte  lost_full, lost_wrap, deciding, recorded;
#define LOST_SUM (lost_full + lost_wrap)

/* ---- the memories' bytes: the position that was written, + 1 ---- */
byte  data[NM*SB];

/* ---- the reader's own ---- */
byte  spare[K];                        /* its memories; out: holds the packet that began at at_[k] */
bit   out[K];
byte  at_[K];

/* ---- ghosts: read by claims only ---- */
bit   writing[NM*SB];                  /* a writer is at this byte */
byte  inside[NSB];                     /* reservations in i that are not out of it yet */
bit   gone[NSB];                       /* given up */
byte  offered, nread, overwritten, dropped, told, ended_writers;
bit   passed, reader_ended, ended;
#ifdef LIVE_READER_STOPS
bit   reader_stops;
#endif
#ifdef LIVE_WRITER_STOPS
bit   writer_stops;
#endif

#if K == 1
#define READERS(m) (spare[0]==(m))
#define ANY_OUT out[0]
#define ALL_OUT out[0]
#elif K == 2
#define READERS(m) (spare[0]==(m) || spare[1]==(m))
#define ANY_OUT (out[0] || out[1])
#define ALL_OUT (out[0] && out[1])
#else
#define READERS(m) (spare[0]==(m) || spare[1]==(m) || spare[2]==(m))
#define ANY_OUT (out[0] || out[1] || out[2])
#define ALL_OUT (out[0] && out[1] && out[2])
#endif

/* ================= commit.rs ================= */

/* Frontend::claim and publish, the header between them. The caller's add completed the lap
 * that `at` lies in. Uses the caller's word, m. */
inline deliver(j, at) {
  word = committed[j];
  atomic {
    CLAIM(I4_deliverer, delivered[j] == BEFORE(at));
#ifndef INJ_UNCLAIMED
    delivered[j] = BEFORE(at) | 1                        /* odd: claimed */
#endif
  };
  atomic {                                               /* facts -> packet[m], header */
    m = MEM(table[j]);
    CLAIM(I2_owner, !READERS(m));
    CLAIM(I3_facts, fact_begin[j] == BEGIN(at));
    CLAIM(I3_facts, FROM(fact_content_end[j], BEGIN(at)) >= 0 && FROM(fact_content_end[j], BEGIN(at)) <= SB);
    CLAIM(I13_given_up, !gone[j]);
    packet_start[m] = BEGIN(at);
    packet_content[m] = FROM(fact_content_end[j], BEGIN(at));
    packet_records[m] = word & RECORDS;
#ifdef INJ_LOST_AT_DELIVERY
    packet_lost[m] = LOST_SUM;
#else
    packet_lost[m] = fact_lost[j];
#endif
  };
#ifndef INJ_TABLE_LATE
  table[j] = DELIVERED_ID(LAP(at), m);
#endif
#ifndef INJ_RECORDS_LATE
  committed[j] = (COMPLETE(at) % CM) << RBITS;           /* records taken: a plain store */
#endif
#ifndef INJ_RECORDED_LATE
  recorded = recorded + (word & RECORDS);
#endif
  atomic {
    CLAIM(I4_deliverer, delivered[j] == (BEFORE(at) | 1));
    delivered[j] = COMPLETE(at); inside[j]--
  };
#ifdef INJ_TABLE_LATE
  table[j] = DELIVERED_ID(LAP(at), m);
#endif
#ifdef INJ_RECORDED_LATE
  recorded = recorded + (word & RECORDS);
#endif
#ifdef INJ_RECORDS_LATE
  committed[j] = word & ~RECORDS;
#endif
  word = 0
}

/* Frontend::add, with what the closer stores before it (`stores`). completes := whether the
 * value that it returned is that of a complete lap. Uses the caller's word. */
inline add(j, at, size, n) {
  word = (committed[j] + ((size) << RBITS) + (n)) % CWORDS;
  committed[j] = word;
  completes = (word + CWORDS - ((BEFORE(at) + SB) % CM << RBITS)) % CWORDS <= RECORDS;
  CLAIM(I1_range, gone[j] || (BYTES_SINCE(word, BEFORE(at)) <= SB && BYTES_SINCE(word, BEFORE(at)) > 0));
#ifndef INJ_TWO_DELIVERERS
  if :: completes -> skip :: else -> inside[j]-- fi;
#endif
  word = 0
}
/* … and the second load of a bug */
#ifdef INJ_TWO_DELIVERERS
#define LOOK_AGAIN(j, at) \
  atomic { completes = (committed[j] >> RBITS) == (BEFORE(at) + SB) % CM; \
           if :: completes -> skip :: else -> inside[j]-- fi }
#else
#define LOOK_AGAIN(j, at) skip
#endif

/* ================= reserve.rs ================= */

/* A closer's facts and its add. Nobody but the deliverer reads the facts, and it comes after
 * the add: one step. */
#ifdef INJ_FACTS_LATE
#define CLOSE_AND_ADD(j, at, content_end, sum, size) \
  atomic { add(j, at, size, 0) }; atomic { close(j, content_end, sum) }
#else
#define CLOSE_AND_ADD(j, at, content_end, sum, size) \
  atomic { close(j, content_end, sum); add(j, at, size, 0) }
#endif

inline close(j, content_end, sum) {
  fact_content_end[j] = content_end;
  fact_lost[j] = sum
}

/* Frontend::enter, from its table load on: noref off before the first byte; m := the memory
 * in the word finally seen. */
inline noref_off(j) {
#ifdef OVERWRITE
  do
  :: IS_NOREF(id) ->
     atomic {
       if
       :: table[j] == id ->
          table[j] = id & ~NOREF;
          if :: IS_TAKEN(id) -> skip :: else -> overwritten = overwritten + packet_records[MEM(id)] fi;
          break
       :: else -> id = table[j]
       fi }
  :: else -> break
  od;
#endif
  m = MEM(id)
}

/* Frontend::seal: switch (bit 0), finalise (bit FINAL). */
inline seal(bit_) {
  do
  :: atomic {
       old = write_pos;
       if :: IS_FINAL(old) || (OFFSET(old) == 0 && bit_ == 0) -> break :: else fi };
     lost = LOST_SUM;
     atomic {
       if
       :: write_pos == old ->
#ifdef INJ_FINAL_SECOND_CAS            /* pads first, sets the bit by another one */
          write_pos = (OFFSET(old) -> NEXT(old) : old);
#else
          write_pos = (OFFSET(old) -> NEXT(old) : old) | bit_;
#endif
          if :: OFFSET(old) -> inside[INDEX(old)]++ :: else fi
       :: else -> old = 0; goto_again = 1
       fi };
     if
     :: goto_again -> goto_again = 0
     :: else ->
#ifdef INJ_FINAL_SECOND_CAS
        if :: bit_ -> atomic { write_pos = write_pos | bit_ } :: else fi;
#endif
        if
        :: OFFSET(old) ->
           CLOSE_AND_ADD(INDEX(old), old, old, lost, SB - OFFSET(old));
           LOOK_AGAIN(INDEX(old), old);
           if :: completes -> deliver(INDEX(old), old) :: else fi
        :: else
        fi;
        break
     fi
  od;
  atomic { old = 0; lost = 0; completes = 0; m = 0 }
}

/* What the CAS of a reservation must not have done. */
inline granted(from_, to_) {
  CLAIM(I13_no_grant, !IS_FINAL(write_pos));
  CLAIM(I1_range, POS(write_pos) == from_);
#ifndef OVERWRITE
  CLAIM(I10_bound, FROM(to_, consumed) <= BUF)
#endif
}

proctype writer(byte me) {
  byte n, size, old, begin, end, lost, seen, word, m, i;
  short id;
  bit completes, decides, stands;
  {
  do
  :: n < (me == 0 -> NE0 : NE) ->
     atomic {
       n++; size = SIZE;
#ifdef TWO
       if :: size = 1 :: size = 2 fi
#endif
     };
again:                                 /* one turn: of reserve_fast, or of reserve */
     atomic {
       old = write_pos;
       if
       :: IS_FINAL(old) -> goto closed
       :: else
       fi;
       if
       :: OFFSET(old) == 0 || OFFSET(old) + size <= SB -> begin = old
       :: else -> begin = NEXT(old)
       fi;
       end = PLUS(begin, size)
     };
     if
     :: OFFSET(old) != 0 && OFFSET(old) + size < SB ->   /* the fast path */
        atomic {
          if
#ifdef INJ_RESERVE_STORE
          :: !IS_FINAL(write_pos) ->
#else
          :: write_pos == old ->
#endif
             granted(old, end);
             write_pos = end; inside[INDEX(old)]++; offered++;
             goto have_it
          :: else
          fi };
#ifdef RACE
        if :: decides -> goto again :: else fi
#else
        goto again
#endif
     :: else
     fi;
#ifdef RACE
     if
     :: !decides ->                    /* loss.rs: deciding */
        if :: IS_FINAL(write_pos) -> goto closed :: else fi;
        atomic { deciding++; decides = 1; goto again }
     :: else
     fi;
#endif
     /* reserve_slow */
#ifdef INJ_MEMORY_EARLY
     id = table[INDEX(begin)];
#endif
#ifndef INJ_LOST_LATE
     lost = LOST_SUM;
#endif
     if
     :: OFFSET(begin) == 0 ->          /* may_open */
#ifdef OVERWRITE
        atomic { seen = delivered[INDEX(begin)]; stands = inside[INDEX(begin)] > 0 };
#ifndef INJ_OPEN_BLIND
        if
        :: seen != BEFORE(begin) ->
#ifdef INJ_WAIT_FOR_WRITER
           goto again;
#endif
#ifndef INJ_NO_SECOND_LOOK
           if :: write_pos != old -> goto again :: else fi;
#endif
           atomic { CLAIM(I9_wrap, stands); goto refused }
        :: else
        fi
#endif
#else
        atomic { seen = consumed;
#ifdef INJ_FULL_LATE
          if
          :: FROM(begin, seen) > BUF -> stands = 1
#elif defined(INJ_UNWRAPPED)           /* positions compared as if they never wrapped */
          if
          :: begin - seen >= BUF -> stands = 1
#else
          if
#ifdef INJ_FULL_EARLY
          :: FROM(begin, seen) >= BUF-SB ->
#else
          :: FROM(begin, seen) >= BUF ->
#endif
             CLAIM(I8_full, FROM(NEXT(MINUS(POS(write_pos), 1)), consumed) >= BUF);
             stands = 1
#endif
          :: else
          fi };
        if
        :: stands ->
           stands = 0;
#ifdef INJ_WAIT_FOR_READER
           goto again;
#endif
#ifndef INJ_NO_SECOND_LOOK
           if :: write_pos != old -> goto again :: else fi;
#endif
           goto refused
        :: else
        fi
#endif
     :: else
     fi;
     atomic {                          /* advance */
       seen = 0; stands = 0;
       if
#ifdef INJ_BIT_UNSEEN
       :: POS(write_pos) == old ->
#else
       :: write_pos == old ->
#endif
          granted(old, end);
          write_pos = end; offered++;
          inside[INDEX(begin)]++;
          if :: begin != old -> inside[INDEX(old)]++ :: else fi
       :: else -> goto again
       fi };
#ifdef INJ_LOST_LATE
     lost = LOST_SUM;
#endif
have_it:
     atomic {                          /* facts of the sub-buffer that it opens, or ends itself */
       if :: OFFSET(begin) == 0 -> fact_begin[INDEX(begin)] = begin :: else fi;
       if :: OFFSET(end) == 0 -> close(INDEX(begin), end, lost) :: else fi;
#ifndef INJ_MEMORY_EARLY
       id = table[INDEX(begin)]
#endif
     };
#ifdef INJ_NOREF_OPENER
     if :: OFFSET(begin) == 0 -> noref_off(INDEX(begin)) :: else -> m = MEM(id) fi;
#elif defined(INJ_NOREF_LATE)
     m = MEM(id);
#else
     noref_off(INDEX(begin));
#endif
     id = 0;
     if
     :: BEGIN(begin) != BEGIN(old) ->  /* the old sub-buffer: the rest is padding */
        i = m;
        CLOSE_AND_ADD(INDEX(old), old, old, lost, SB - OFFSET(old));
        LOOK_AGAIN(INDEX(old), old);
#ifndef INJ_CLOSING_DROPPED
        if :: completes -> deliver(INDEX(old), old) :: else fi;
#endif
        atomic { m = i; i = 0; completes = 0 }
     :: else
     fi;
#ifdef RACE
     atomic { if :: decides -> deciding--; decides = 0 :: else fi; lost = 0; old = 0 };
#else
     atomic { lost = 0; old = 0 };
#endif
     atomic {
       i = 0;
       do
       :: i < size ->
          CLAIM(I2_owner, !READERS(m));
          CLAIM(I1_range, !writing[m*SB + OFFSET(begin) + i]);
          writing[m*SB + OFFSET(begin) + i] = 1; i++
       :: else -> break
       od;
       i = 0 };
     atomic {
       do
       :: i < size ->
          CLAIM(I2_owner, !READERS(m));
          data[m*SB + OFFSET(begin) + i] = PLUS(begin, i) + 1;
          writing[m*SB + OFFSET(begin) + i] = 0; i++
       :: else -> break
       od;
       i = 0 };
#ifdef INJ_NOREF_LATE
     atomic { id = table[INDEX(begin)]; noref_off(INDEX(begin)); id = 0 };
#endif
     atomic { add(INDEX(begin), begin, size, 1); m = 0 };
     LOOK_AGAIN(INDEX(begin), begin);
     if :: completes -> deliver(INDEX(begin), begin) :: else fi;
     goto next;
refused:
#ifdef INJ_UNDECIDED_EARLY
     atomic { deciding--; decides = 0 };
#endif
     atomic {
       offered++;
#ifdef OVERWRITE
       lost_wrap++
#else
       lost_full++
#endif
     };
closed:
#if defined(RACE) && !defined(INJ_DECIDING_KEPT)
     if :: decides -> atomic { deciding--; decides = 0 } :: else fi;
#endif
next:
     atomic { old = 0; begin = 0; end = 0; lost = 0; seen = 0; m = 0; id = 0; size = 0;
              completes = 0; stands = 0 }
  :: else -> break
  od;
  atomic { ended_writers++; n = 0 }
#ifdef LIVE_WRITER_STOPS
  } unless { me == 0 && writer_stops }
#else
  }
#endif
}

proctype switcher() {
  byte old, lost, word, m;
  bit completes, goto_again;
  seal(0);
  ended_writers++
}

/* ================= read.rs, and the end (drain.rs) ================= */

/* Frontend::oldest */
#ifdef OVERWRITE
#define OLDEST(end) (FROM(end, consumed) > BUF -> MINUS(NEXT(MINUS(end, 1)), LAPPED) : consumed)
#ifdef INJ_OLDEST_SHORT
#define LAPPED (BUF-SB)
#else
#define LAPPED BUF
#endif
#else
#define OLDEST(end) consumed
#endif

/* A packet in memory m that began at `at`: whole, of that lap, and nobody is in it. */
inline look(m_, at) {
  CLAIM(I5_lap, packet_start[m_] == at);
  i = 0; v = 0;
  do
  :: i < SB ->
     CLAIM(I3_complete, !writing[m_*SB+i]);
     if :: i < packet_content[m_] -> CLAIM(I3_complete, data[m_*SB+i] == PLUS(at, i) + 1) :: else fi;
     i++
  :: else -> break
  od;
#ifdef TWO
  CLAIM(I3_complete, packet_records[m_] <= packet_content[m_] && 2*packet_records[m_] >= packet_content[m_]);
#else
  CLAIM(I3_complete, SIZE*packet_records[m_] == packet_content[m_]);
#endif
  i = 0
}

inline each_memory_once() {
  i = 0; v = 0;
  do :: i < NSB -> v = v | (1 << MEM(table[i])); i++ :: else -> break od;
  i = 0;
  do :: i < K -> v = v | (1 << spare[i]); i++ :: else -> break od;
  CLAIM(I2_owner, v == (1 << NM) - 1);
  i = 0; v = 0
}

inline put(k_) {
  look(spare[k_], at_[k_]);
  nread = nread + packet_records[spare[k_]];
  CLAIM(I7_ahead, nread <= recorded);
  out[k_] = 0; at_[k_] = 0;
#ifdef INJ_PUT_TWICE
  spare[(k_+1) % K] = spare[k_];
#endif
  each_memory_once()
}

/* everything that is reserved is delivered (is_settled, oldest_open); all := so */
inline all_delivered() {
  at = OLDEST(POS(write_pos)); all = 1;
  do
  :: FROM(POS(write_pos), at) > 0 ->
     if :: delivered[INDEX(at)] != COMPLETE(at) -> all = 0 :: else fi;
     at = PLUS(at, SB)
  :: else -> break
  od;
  at = 0
}

/* given_up: records in sub-buffers that were given up; v := them */
inline given_up() {
  i = 0; v = 0;
  do
  :: i < NSB ->
     if
#ifndef INJ_GIVEN_UP_ONCE
     :: BYTES_SINCE(committed[i], delivered[i] & ~1) >= SB -> v = v + (committed[i] & RECORDS)
#endif
     :: else
     fi;
     i++
  :: else -> break
  od;
  i = 0
}

/* Fairness is a process's, not a choice's: for progress the reader sleeps (Wake) until there
 * is something to do. For safety it may look at any time. */
#if defined(LIVE) || defined(LIVE_READER_STOPS) || defined(LIVE_WRITER_STOPS) || defined(LIVE_NO_READER)
#define HAS_PACKET (FROM(POS(write_pos), OLDEST(POS(write_pos))) > 0 && \
                    delivered[INDEX(OLDEST(POS(write_pos)))] == COMPLETE(OLDEST(POS(write_pos))))
#define AWAKE (phase >= SETTLED || HAS_PACKET)
#define NOBODY_INSIDE (inside[0] + inside[1] == 0)       /* NSB is 2 there */
#else
#define AWAKE 1
#define NOBODY_INSIDE 1
#endif

#ifdef LIVE_WRITER_STOPS               /* … and the end is no help to the others */
#define STOP (ended_writers >= NACT-1)
#elif defined(RACE)
#define STOP 1
#else
#define STOP (ended_writers == NACT)
#endif

#define RUNNING   0
#define FINALISED 1                    /* waits for what is open, drains */
#define SETTLED   2
#define OVERDUE   3                    /* what is open now is passed over */
#define DRAINED   4                    /* added to the last two */

proctype reader() {
  byte at, end, k, v, i, old, lost, word, m, phase, last, last_lost;
  short id;
  bit completes, goto_again, all, fresh;
#if FLUSH > 0
  byte switches, empties;
#endif
#if SNAPSHOT > 0
  byte snapshots, gathered, run_end, all_of;
  bit quiet, gap;
#endif
#ifdef CRASH
  bit crashed;
#endif
  {
  last = MINUS(START, SB);
  do
  :: atomic { !ALL_OUT && phase < DRAINED && AWAKE -> k = 0; do :: out[k] -> k++ :: else -> break od };
     /* get: puts in spare[k] */
     atomic {
       end = POS(write_pos);
#ifdef OVERWRITE
       consumed = OLDEST(end);         /* nobody else reads it in this mode */
#endif
       at = consumed
     };
     if
     :: FROM(end, at) <= 0 ->          /* Empty */
        if
        :: phase >= SETTLED -> phase = phase + DRAINED
        :: else
        fi
     :: else ->
#ifdef INJ_CONSUMED_EARLY
        if :: delivered[INDEX(at)] == COMPLETE(at) -> consumed = PLUS(at, SB) :: else fi;
#endif
        if
#ifdef INJ_GET_UNDELIVERED
        :: 1 ->
#else
        :: delivered[INDEX(at)] == COMPLETE(at) ->
#endif
           id = table[INDEX(at)];
           if
           :: IS_TAKEN(id) && IS_NOREF(id) -> consumed = PLUS(at, SB)   /* a reader died here */
           :: !IS_TAKEN(id) && IS_NOREF(id) && LAP_FITS(id, at) ->
              atomic {                 /* the exchange */
                if
#ifdef INJ_EXCHANGE_STORE
                :: 1 ->
#else
                :: table[INDEX(at)] == id ->
#endif
#ifdef INJ_LAP_KEPT
                   table[INDEX(at)] = DELIVERED_ID(LAP(at), spare[k]);
#else
                   table[INDEX(at)] = TAKEN_ID(spare[k]);
#endif
                   spare[k] = MEM(id); at_[k] = at; out[k] = 1; fresh = 1;
                   each_memory_once();
                   look(spare[k], at);
                   CLAIM(I5_lap, FROM(at, last) > 0); last = at;
                   CLAIM(I6_lost, packet_lost[spare[k]] >= last_lost);
                   last_lost = packet_lost[spare[k]]
                :: else
                fi };
#ifdef CRASH
              if
              :: atomic { fresh && !crashed -> crashed = 1; k = 0; fresh = 0;
                          do
                          :: k < K ->  /* what the table does not name is the reader's */
                             if :: out[k] -> out[k] = 0; dropped = dropped + packet_records[spare[k]]; at_[k] = 0
                                :: else
                             fi;
                             k++
                          :: else -> break
                          od }
              :: skip
              fi;
#endif
#ifdef INJ_CONSUMED_EARLY
              fresh = 0
#else
              if :: fresh -> atomic { consumed = PLUS(at, SB); fresh = 0 } :: else fi
#endif
           :: else -> CLAIM(I13_readable, phase < SETTLED)
           fi
        :: else ->                     /* NotDelivered */
           CLAIM(I13_readable, phase != SETTLED);
#ifdef TIMEOUT
           if
           :: phase == OVERDUE ->      /* pass_over, give_up */
              word = committed[INDEX(at)];
              do
              :: BYTES_SINCE(word, BEFORE(at)) >= SB -> break
              :: else ->
#ifdef INJ_GIVE_UP_NOTHING
                 atomic { gone[INDEX(at)] = 1; break }
#elif defined(INJ_GIVE_UP_STORE)
                 atomic { committed[INDEX(at)] = (word + (2*SB << RBITS)) % CWORDS; gone[INDEX(at)] = 1; break }
#else
                 atomic {
                   if
                   :: committed[INDEX(at)] == word ->
#ifdef INJ_GIVE_UP_ONE_LAP
                      committed[INDEX(at)] = (word + (SB << RBITS)) % CWORDS;
#else
                      committed[INDEX(at)] = (word + (2*SB << RBITS)) % CWORDS;
#endif
#ifdef INJ_GIVEN_UP_ONCE
                      lost_wrap = lost_wrap + (word & RECORDS);
#endif
                      gone[INDEX(at)] = 1; break
                   :: else -> word = committed[INDEX(at)]
                   fi }
#endif
              od;
              atomic { passed = 1; word = 0; consumed = PLUS(at, SB) }
           :: else
           fi
#endif
        fi
     fi;
     atomic { at = 0; end = 0; id = 0; k = 0; v = 0; i = 0; fresh = 0 }
  :: atomic { out[0] -> put(0) }
#if K > 1
  :: atomic { out[1] -> put(1) }
#endif
#if K > 2
  :: atomic { out[2] -> put(2) }
#endif
#if SNAPSHOT > 0
  :: atomic { phase == RUNNING && !ANY_OUT && snapshots < SNAPSHOT -> snapshots++ };   /* snapshot.rs: gather, lend, give_back */
     seal(0);
     atomic {                          /* newest and oldest; not what was begun since the switch */
       end = POS(write_pos); at = OLDEST(end);
#ifndef INJ_NEWEST_BEGUN
       end = BEGIN(end);
#endif
       quiet = (ended_writers == NACT); all_of = FROM(end, at) / SB };
     do
     :: FROM(end, at) > 0 ->
        if
        :: delivered[INDEX(at)] == COMPLETE(at) ->
           id = table[INDEX(at)]; old = spare[0];
           if
           :: !IS_TAKEN(id) && IS_NOREF(id) && LAP_FITS(id, at) ->
              atomic {                 /* exchange, but leave `consumed` */
                if
                :: table[INDEX(at)] == id ->
                   table[INDEX(at)] = TAKEN_ID(old); spare[0] = MEM(id); fresh = 1;
                   each_memory_once();
                   look(spare[0], at)
                :: else
                fi }
           :: else
           fi
        :: else
        fi;
        if
        :: fresh ->
           atomic {                    /* copied */
             look(spare[0], at);
#ifndef INJ_GAP_KEPT
             if :: gap -> gathered = 0; gap = 0 :: else fi;
#endif
             CLAIM(I8_snapshot, gathered == 0 || run_end == at);
             gathered++; run_end = PLUS(at, SB) };
           atomic {                    /* exchange back */
             if
#ifdef INJ_BACK_STORE
             :: 1 ->
#else
             :: table[INDEX(at)] == TAKEN_ID(old) ->
#endif
                table[INDEX(at)] = id; spare[0] = old
             :: else ->                /* a writer passed: this lap is overwritten, its memory spare */
#ifndef INJ_BACK_UNCOUNTED
                overwritten = overwritten + packet_records[spare[0]]
#endif
             fi;
             each_memory_once() }
        :: else -> gap = 1             /* refused: if there is a newer one, the run begins there */
        fi;
        atomic { at = PLUS(at, SB); fresh = 0; id = 0; old = 0 }
     :: else -> break
     od;
     atomic { CLAIM(I8_snapshot, !quiet || (gathered == all_of && !gap));
              end = 0; at = 0; gap = 0; gathered = 0; run_end = 0; quiet = 0; all_of = 0; v = 0 }
#endif
#if FLUSH > 0
  :: atomic { phase == RUNNING && switches < FLUSH -> switches++ }; seal(0)
  :: atomic { phase == RUNNING && empties < FLUSH -> empties++ };
     do                                /* empty_packet */
     :: atomic {
          old = write_pos; at = MINUS(BEGIN(POS(old)), SB);
          if
          :: OFFSET(old) == 0 && delivered[INDEX(at)] == COMPLETE(at) -> v = fact_lost[INDEX(at)]
          :: else -> break
          fi };
        lost = LOST_SUM;
        if :: lost == v -> break :: else fi;
#ifndef INJ_EMPTY_BLIND
#ifdef OVERWRITE
        if :: delivered[INDEX(old)] != BEFORE(old) -> break :: else fi;
#else
        if :: FROM(old, consumed) >= BUF -> break :: else fi;
#endif
#endif
        atomic {
          if
          :: write_pos == old -> granted(old, PLUS(old, SB)); write_pos = PLUS(old, SB); inside[INDEX(old)]++
          :: else -> goto_again = 1
          fi };
        if
        :: goto_again -> goto_again = 0
        :: else ->
           atomic { fact_begin[INDEX(old)] = old; id = table[INDEX(old)] };
           noref_off(INDEX(old));
#ifdef INJ_EMPTY_LOST_LATE
           lost = LOST_SUM;
#endif
           CLOSE_AND_ADD(INDEX(old), old, old, lost, SB);
           LOOK_AGAIN(INDEX(old), old);
           if :: completes -> deliver(INDEX(old), old) :: else fi;
           break
        fi
     od;
     atomic { old = 0; at = 0; v = 0; lost = 0; m = 0; id = 0; completes = 0 }
#endif
  :: phase == RUNNING && STOP ->
     seal(FINAL);
     atomic { CLAIM(I13_no_grant, IS_FINAL(write_pos) && OFFSET(write_pos) == 0); phase = FINALISED }
#ifdef INJ_UNDECIDED_UNSEEN
  :: phase == FINALISED ->
#else
  :: phase == FINALISED && deciding == 0 && NOBODY_INSIDE ->      /* is_settled */
#endif
     atomic {
       all_delivered();
       CLAIM(I13_readable, all || ended_writers < NACT);
#ifdef INJ_OPEN_UNSEEN
       all = 1;
#endif
       if :: all -> phase = SETTLED :: else fi;
       all = 0 }
#ifdef TIMEOUT
  :: phase == FINALISED -> phase = OVERDUE
#endif
  :: phase > DRAINED && !ANY_OUT -> break
  od;
  atomic { given_up(); told = LOST_SUM + v; v = 0;
           CLAIM(I6_lost, told >= last_lost); reader_ended = 1 };      /* last_words */
#ifndef LIVE_WRITER_STOPS
  atomic {
    ended_writers == NACT ->
    CLAIM(I13_readable, consumed == POS(write_pos));
    given_up(); lost = LOST_SUM + v;
    CLAIM(I7_offered, offered == recorded + lost);
    i = 0; v = 0;                      /* kept */
    do
    :: i < NSB -> if :: IS_NOREF(table[i]) && !IS_TAKEN(table[i]) -> v = v + packet_records[MEM(table[i])] :: else fi; i++
    :: else -> break
    od;
    CLAIM(I7_recorded, recorded == nread + overwritten + dropped + v);
    if
    :: passed -> CLAIM(I7_told, told <= lost + v)
    :: !passed && phase == SETTLED + DRAINED -> CLAIM(I7_told, told == lost); CLAIM(I8_newest, v == 0)
    :: else
    fi;
#ifdef OVERWRITE
    CLAIM(I7_offered, lost_full == 0);
#else
    CLAIM(I7_recorded, overwritten == 0 && lost_wrap == 0);
#endif
#ifdef COVER
    assert(!(COVER));
#endif
    ended = 1
  }
#else
  skip
#endif
#ifdef LIVE_READER_STOPS
  } unless { reader_stops }
#else
  }
#endif
}

#if defined(LIVE_READER_STOPS) || defined(LIVE_WRITER_STOPS)
proctype stopper() {                   /* at any time: the other one never makes a step again */
#ifdef LIVE_READER_STOPS
  reader_stops = 1
#else
  writer_stops = 1
#endif
}
#endif

init {
  byte i;
  atomic {
    assert(START % BUF == 0 && SB % 2 == 0 && 4*SB <= CM && CM <= PM/NSB && NM <= 8);
    write_pos = START; consumed = START;
    do
    :: i < NSB ->
       committed[i] = (BEFORE(START) % CM) << RBITS; delivered[i] = BEFORE(START);
       table[i] = TAKEN_ID(i); i++
    :: else -> break
    od;
    i = 0; do :: i < K -> spare[i] = NSB + i; i++ :: else -> break od;
    i = 0; do :: i < NW -> run writer(i); i++ :: else -> break od;
    i = 0; do :: i < NSW -> run switcher(); i++ :: else -> break od;
    i = 0;
#if defined(LIVE_READER_STOPS) || defined(LIVE_WRITER_STOPS)
    run stopper();
#endif
#ifndef LIVE_NO_READER
    run reader()
#endif
  }
}

/* ---- progress (I9) ---- */
#if defined(LIVE_READER_STOPS)         /* a reader that stops never makes a writer wait */
ltl I9_reader_stops { <> (ended_writers == NACT) }
#elif defined(LIVE_WRITER_STOPS)       /* a writer that stops: neither the others nor the reader wait */
ltl I9_writer_stops { <> (ended_writers >= NACT-1 && reader_ended) }
#elif defined(LIVE_NO_READER)          /* without fairness: some writer always completes */
ltl I9_lock_free { <> (ended_writers == NACT) }
#elif defined(LIVE)                    /* every writer comes to its end, the reader drains */
ltl I9_ends { <> (ended == 1) }
#endif
