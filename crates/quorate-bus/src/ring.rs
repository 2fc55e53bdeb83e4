//! A bounded queue for any number of producers and consumers, with batches.
//!
//! A ring with two indices, as between one producer and one consumer: each side keeps a copy of the other's index and looks at the real one
//! only when the copy says full or empty, so that in a flow the lines with the indices cross between cores once in many items, and a consumer never
//! touches a slot that is being filled. Producers take turns by a lock that is held for one push, and so do consumers where there can be more than
//! one ([`Takers::Many`]).

use std::mem::MaybeUninit;

use crate::sync::{AtomicBool, AtomicUsize, Ordering, Padded, UnsafeCell};

/// The most items a ring holds.
pub(crate) const CAPACITY_MAX: usize = 1 << 24;

/// Slots that are asked for ahead of the one in use.
const AHEAD: usize = 6;

/// Who takes items out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takers {
    /// One thread at a time, which the caller sees to.
    One,
    /// Any number.
    Many,
}

/// A producer by which a ring knows one that is alone, and serves it faster. Nobody else has its number, and whoever puts something in has it in hand
/// alone: so the one a side leans towards is never inside twice.
#[derive(Debug)]
pub(crate) struct Who(usize);

impl Who {
    pub(crate) fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(usize::try_from(number).ok().filter(|number| *number != EVERYBODY).unwrap_or(NOBODY))
    }

    /// One that is never favoured.
    #[cfg(test)]
    pub(crate) const fn nobody() -> Self {
        Self(NOBODY)
    }
}

/// One side of the ring: its own index, its copy of the other side's, and the lock under which they are used.
///
/// The lock leans towards the first who takes it (a biased lock): while nobody else comes, that one enters and leaves with plain stores, and so need not wait
/// until what it wrote has reached the other core. The first other who comes takes this back for good, with a barrier that the favourite need
/// not pay for ([`crate::barrier`]).
#[derive(Debug)]
struct Side {
    locked: AtomicBool,
    /// [`NOBODY`], the favourite's number, or [`EVERYBODY`].
    favourite: AtomicUsize,
    /// The favourite is inside.
    inside: AtomicBool,
    own: UnsafeCell<usize>,
    other: UnsafeCell<usize>,
}

const NOBODY: usize = 0;
const EVERYBODY: usize = usize::MAX;

impl Side {
    fn new() -> Self {
        Self {
            locked: AtomicBool::new(false),
            favourite: AtomicUsize::new(NOBODY),
            inside: AtomicBool::new(false),
            own: UnsafeCell::new(0),
            other: UnsafeCell::new(0),
        }
    }

    #[inline]
    fn enter<'a>(&'a self, who: &'a mut Who) -> Inside<'a> {
        let who = who.0;
        if who != NOBODY && self.favourite.load(Ordering::Relaxed) == who {
            self.inside.store(true, Ordering::Relaxed);
            crate::barrier::light();
            if self.favourite.load(Ordering::Acquire) == who {
                return Inside { side: self, flag: &self.inside };
            }
            self.inside.store(false, Ordering::Release);
        }
        self.lock(who)
    }

    fn lock(&self, who: usize) -> Inside<'_> {
        let mut patience = 0;
        while self.locked.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            wait_a_little(&mut patience);
            // Looking costs those who hold it less than trying. (In a model of memory a look may see what was, for ever.)
            while !cfg!(loom) && self.locked.load(Ordering::Relaxed) {
                wait_a_little(&mut patience);
            }
        }
        let inside = Inside { side: self, flag: &self.locked };
        match self.favourite.load(Ordering::Relaxed) {
            EVERYBODY => {}
            NOBODY if who != NOBODY => self.favourite.store(who, Ordering::Release),
            NOBODY => {}
            _ => {
                self.favourite.store(EVERYBODY, Ordering::Release);
                while !crate::barrier::heavy() {
                    wait_a_little(&mut patience);
                }
                while self.inside.load(Ordering::Acquire) {
                    wait_a_little(&mut patience);
                }
            }
        }
        inside
    }
}

/// Longer each time; its holder may have lost its core.
fn wait_a_little(patience: &mut u32) {
    if *patience < 7 && !cfg!(loom) {
        for _ in 0..1_u32 << *patience {
            crate::wait::relax();
        }
        *patience += 1;
    } else {
        crate::wait::yield_now();
    }
}

/// The right to use the cells of a side, given back when dropped.
#[derive(Debug)]
struct Inside<'a> {
    side: &'a Side,
    flag: &'a AtomicBool,
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        self.flag.store(false, Ordering::Release);
    }
}

/// The queue.
pub(crate) struct Ring<T> {
    /// Items below are filled.
    tail: Padded<AtomicUsize>,
    /// Items below are taken.
    head: Padded<AtomicUsize>,
    producers: Padded<Side>,
    consumers: Padded<Side>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    mask: usize,
    takers: Takers,
}

impl<T> std::fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("capacity", &self.slots.len()).field("len", &self.len()).finish()
    }
}

#[expect(unsafe_code, reason = "items move through slots whose owner the indices decide")]
// SAFETY: an item is moved in by the producer that holds the producers' lock, and out by the consumer that holds the consumers' lock or is the only one,
// later: the release store and acquire load of the tail order the two, and those of the head order taking an item before filling its slot again. The
// cells of a side are used only under its lock, or by its only user. So sharing the ring only moves items between threads.
unsafe impl<T: Send> Sync for Ring<T> {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    /// Room for `capacity` items, raised to a power of two, 2 at least and [`CAPACITY_MAX`] at most.
    pub(crate) fn new(capacity: usize, takers: Takers) -> Self {
        let capacity = capacity.clamp(2, CAPACITY_MAX).next_power_of_two();
        Self {
            tail: Padded(AtomicUsize::new(0)),
            head: Padded(AtomicUsize::new(0)),
            producers: Padded(Side::new()),
            consumers: Padded(Side::new()),
            slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            mask: capacity - 1,
            takers,
        }
    }

    /// Items in it at some moment during the call.
    pub(crate) fn len(&self) -> usize {
        let tail = self.tail.0.load(Ordering::Acquire);
        tail.wrapping_sub(self.head.0.load(Ordering::Acquire)).min(self.slots.len())
    }

    /// Whether nothing can be taken. For consumers: with [`Takers::One`], the one only.
    #[inline]
    #[expect(unsafe_code, reason = "reads the consumers' index under their lock, or as the only consumer")]
    pub(crate) fn is_empty(&self) -> bool {
        let side = &self.consumers.0;
        let _inside = (self.takers == Takers::Many).then(|| side.lock(NOBODY));
        // SAFETY: the consumers' lock is held, or this is the only consumer.
        let head = side.own.with_mut(|own| unsafe { *own });
        head == self.tail.0.load(Ordering::Acquire)
    }

    /// Puts an item in, or gives it back where there is no room.
    #[cfg(test)]
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        match self.reserve(&mut Who::nobody()) {
            Some(place) => {
                place.fill(item);
                Ok(())
            }
            None => Err(item),
        }
    }

    /// A place for one item, where there is room; other producers wait until it is filled or dropped.
    #[inline]
    #[expect(unsafe_code, reason = "reads the producers' cells under their lock")]
    pub(crate) fn reserve<'a>(&'a self, who: &'a mut Who) -> Option<Place<'a, T>> {
        let inside = self.producers.0.enter(who);
        let side = inside.side;
        // SAFETY: the producers' lock is held: nobody else uses these two cells.
        let tail = side.own.with_mut(|own| unsafe { *own });
        // SAFETY: as above.
        let mut head = side.other.with_mut(|other| unsafe { *other });
        if tail.wrapping_sub(head) == self.slots.len() {
            head = self.head.0.load(Ordering::Acquire);
            // SAFETY: as above.
            side.other.with_mut(|other| unsafe { *other = head });
            if tail.wrapping_sub(head) == self.slots.len() {
                return None;
            }
        }
        Some(Place { ring: self, tail, _inside: inside })
    }

    /// Puts in as many of `most` items as there is room for, in order and with nobody else's between them; `make` makes each in turn, and may end it
    /// early. Answers how many.
    #[inline]
    #[expect(unsafe_code, reason = "fills slots under the producers' lock")]
    pub(crate) fn push_some<I: Emplace<T>>(
        &self,
        who: &mut Who,
        most: usize,
        mut make: impl FnMut() -> Option<I>,
    ) -> usize {
        // Given back also where `make` panics.
        let inside = self.producers.0.enter(who);
        let side = inside.side;
        // SAFETY: the producers' lock is held: nobody else uses these two cells.
        let tail = side.own.with_mut(|own| unsafe { *own });
        // SAFETY: as above.
        let mut head = side.other.with_mut(|other| unsafe { *other });
        if self.slots.len() - tail.wrapping_sub(head) < most {
            head = self.head.0.load(Ordering::Acquire);
            // SAFETY: as above.
            side.other.with_mut(|other| unsafe { *other = head });
        }
        let room = self.slots.len() - tail.wrapping_sub(head);
        let mut filled = Filled { ring: self, tail };
        for _ in 0..most.min(room) {
            let Some(item) = make() else {
                break;
            };
            let slot = &self.slots[filled.tail & self.mask];
            if filled.tail.wrapping_add(AHEAD).wrapping_sub(head) < self.slots.len() {
                crate::prefetch::for_writing(
                    &raw const self.slots[filled.tail.wrapping_add(AHEAD) & self.mask],
                );
            }
            // SAFETY: the slot is at or behind the tail and less than a round before the head: it was taken or never filled, and no consumer looks at it
            // before the tail has passed it.
            slot.with_mut(|place| item.emplace(unsafe { &mut *place }));
            filled.tail = filled.tail.wrapping_add(1);
        }
        filled.tail.wrapping_sub(tail)
    }

    /// Takes the oldest item.
    #[inline]
    #[expect(unsafe_code, reason = "takes an item under the consumers' lock, or as the only consumer")]
    pub(crate) fn pop(&self) -> Option<T> {
        let side = &self.consumers.0;
        let _inside = (self.takers == Takers::Many).then(|| side.lock(NOBODY));
        // SAFETY: the consumers' lock is held, or this is the only consumer: nobody else uses these two cells.
        let head = side.own.with_mut(|own| unsafe { *own });
        // SAFETY: as above.
        let mut tail = side.other.with_mut(|other| unsafe { *other });
        if head == tail {
            tail = self.tail.0.load(Ordering::Acquire);
            // SAFETY: as above.
            side.other.with_mut(|other| unsafe { *other = tail });
        }
        (head != tail).then(|| {
            // SAFETY: the slot is before the tail: it is filled, and no producer writes it before the head, raised below, has passed it. So it is read once.
            let item = self.slots[head & self.mask].with_mut(|place| unsafe { (*place).assume_init_read() });
            let next = head.wrapping_add(1);
            // SAFETY: as above, for the cell.
            side.own.with_mut(|own| unsafe { *own = next });
            self.head.0.store(next, Ordering::Release);
            item
        })
    }

    /// Hands up to `most` items to `each`, oldest first. Answers how many.
    #[inline]
    #[expect(unsafe_code, reason = "takes items as the only consumer")]
    pub(crate) fn pop_some(&self, most: usize, mut each: impl FnMut(T)) -> usize {
        if self.takers == Takers::Many {
            // `each` may do anything, also take from this ring: not under the lock.
            return (0..most).map_while(|_| self.pop()).map(each).count();
        }
        let side = &self.consumers.0;
        // SAFETY: this is the only consumer: nobody else uses these two cells.
        let head = side.own.with_mut(|own| unsafe { *own });
        // SAFETY: as above.
        let mut tail = side.other.with_mut(|other| unsafe { *other });
        if head == tail {
            tail = self.tail.0.load(Ordering::Acquire);
            if head == tail {
                return 0;
            }
            // SAFETY: as above.
            side.other.with_mut(|other| unsafe { *other = tail });
        }
        let count = most.min(tail.wrapping_sub(head));
        // Should `each` panic, what was taken stays taken and the rest stays in.
        let mut taken = Taken { ring: self, head };
        for _ in 0..count {
            let slot = &self.slots[taken.head & self.mask];
            if tail.wrapping_sub(taken.head) > AHEAD {
                crate::prefetch::for_reading(
                    &raw const self.slots[taken.head.wrapping_add(AHEAD) & self.mask],
                );
            }
            // SAFETY: the slot is at or behind the head and before the tail: it is filled, and no producer writes it before the head has passed it. The
            // head passes it below, also where `each` panics, so that it is read once.
            let item = slot.with_mut(|place| unsafe { (*place).assume_init_read() });
            taken.head = taken.head.wrapping_add(1);
            each(item);
        }
        count
    }
}

/// Something that becomes a `T` in its place.
///
/// # Safety
///
/// When `emplace` returns, `place` holds a whole `T`.
#[expect(unsafe_code, reason = "who fills a slot vouches for what is in it")]
pub(crate) unsafe trait Emplace<T> {
    fn emplace(self, place: &mut MaybeUninit<T>);
}

#[expect(unsafe_code, reason = "as above")]
// SAFETY: it writes the whole value.
unsafe impl<T> Emplace<T> for T {
    #[inline]
    fn emplace(self, place: &mut MaybeUninit<T>) {
        place.write(self);
    }
}

/// A free slot in the hands of one producer.
#[derive(Debug)]
pub(crate) struct Place<'a, T> {
    ring: &'a Ring<T>,
    tail: usize,
    _inside: Inside<'a>,
}

impl<T> Place<'_, T> {
    /// Puts the item in.
    #[inline]
    #[expect(unsafe_code, reason = "fills the slot that was reserved")]
    pub(crate) fn fill(self, item: impl Emplace<T>) {
        let slot = &self.ring.slots[self.tail & self.ring.mask];
        // SAFETY: `emplace` fills the slot (that is its contract), and: the slot is less than a round before the head: it was taken or never filled, and no consumer looks at it before the tail, raised below,
        // has passed it. The producers' lock is held by `_inside`, so nobody else fills it.
        slot.with_mut(|place| item.emplace(unsafe { &mut *place }));
        let next = self.tail.wrapping_add(1);
        // SAFETY: as above, for the cell.
        self.ring.producers.0.own.with_mut(|own| unsafe { *own = next });
        self.ring.tail.0.store(next, Ordering::Release);
    }
}

/// Shows what was filled to the consumers.
struct Filled<'a, T> {
    ring: &'a Ring<T>,
    tail: usize,
}

impl<T> Drop for Filled<'_, T> {
    #[inline]
    #[expect(unsafe_code, reason = "writes the producers' index under their lock")]
    fn drop(&mut self) {
        // SAFETY: this lives only within `push_some`, under the producers' lock.
        self.ring.producers.0.own.with_mut(|own| unsafe { *own = self.tail });
        self.ring.tail.0.store(self.tail, Ordering::Release);
    }
}

/// Shows what was taken to the producers.
struct Taken<'a, T> {
    ring: &'a Ring<T>,
    head: usize,
}

impl<T> Drop for Taken<'_, T> {
    #[inline]
    #[expect(unsafe_code, reason = "writes the consumers' index as the only consumer")]
    fn drop(&mut self) {
        // SAFETY: this lives only within `pop_some`, as the only consumer.
        self.ring.consumers.0.own.with_mut(|own| unsafe { *own = self.head });
        self.ring.head.0.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Ring, Takers, Who};

    #[test]
    fn items_come_out_in_the_order_they_went_in() {
        let ring = Ring::new(4, Takers::One);
        for round in 0..10 {
            for item in 0..4 {
                ring.push(round * 4 + item).unwrap();
            }
            assert_eq!(ring.push(99), Err(99));
            assert_eq!(ring.len(), 4);
            for item in 0..4 {
                assert_eq!(ring.pop(), Some(round * 4 + item));
            }
            assert_eq!(ring.pop(), None);
            assert!(ring.is_empty());
        }
    }

    #[test]
    fn batches_take_what_fits() {
        let ring = Ring::new(8, Takers::One);
        let mut who = Who::new();
        let mut items = 0..20;
        let mut make = || items.next();
        assert_eq!(ring.push_some(&mut who, 20, &mut make), 8);
        assert_eq!(ring.push_some(&mut who, 12, &mut make), 0);
        let mut seen = Vec::new();
        assert_eq!(ring.pop_some(3, |item| seen.push(item)), 3);
        assert_eq!(ring.push_some(&mut who, 12, &mut make), 3);
        // What came while it was looking at the last ones is for the next time.
        while ring.pop_some(100, |item| seen.push(item)) > 0 {}
        assert_eq!(seen, (0..11).collect::<Vec<_>>());
        assert_eq!(items.len(), 9);
    }

    #[test]
    fn what_is_left_in_it_is_dropped_once() {
        let item = Arc::new(());
        let ring = Ring::new(8, Takers::One);
        for _ in 0..5 {
            ring.push(Arc::clone(&item)).unwrap();
        }
        drop(ring.pop());
        drop(ring);
        assert_eq!(Arc::strong_count(&item), 1);
    }

    #[test]
    fn a_panic_in_the_middle_of_a_batch_leaves_the_ring_whole() {
        let ring = Ring::new(8, Takers::One);
        let mut who = Who::new();
        let mut items = 0..8;
        assert_eq!(ring.push_some(&mut who, 8, || items.next()), 8);
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ring.pop_some(4, |item| assert!(item < 2, "on purpose"));
        }));
        assert!(died.is_err());
        assert_eq!(ring.pop(), Some(3));
        for item in 0..4 {
            ring.push(item).unwrap();
        }
        assert_eq!(ring.len(), 8);
    }

    #[test]
    fn many_threads_lose_and_repeat_nothing_and_keep_each_producers_order() {
        const EACH: usize = if cfg!(miri) { 100 } else { 20_000 };
        let ring = Ring::new(64, Takers::Many);
        let left = AtomicUsize::new(4 * EACH);
        let seen = std::thread::scope(|scope| {
            for producer in 0..4 {
                let ring = &ring;
                scope.spawn(move || {
                    let mut who = Who::new();
                    let mut next = 0;
                    while next < EACH {
                        if producer % 2 == 0 {
                            let mut item = next..;
                            let most = 7.min(EACH - next);
                            next +=
                                ring.push_some(&mut who, most, || item.next().map(|item| (producer, item)));
                        } else if let Some(place) = ring.reserve(&mut who) {
                            place.fill((producer, next));
                            next += 1;
                        }
                        std::hint::spin_loop();
                    }
                });
            }
            let consumer = |_| {
                let (ring, left) = (&ring, &left);
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    while left.load(Ordering::Relaxed) > 0 {
                        let count = ring.pop_some(5, |item| seen.push(item));
                        left.fetch_sub(count, Ordering::Relaxed);
                        std::thread::yield_now();
                    }
                    seen
                })
            };
            let consumers: Vec<_> = (0..2).map(consumer).collect();
            consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>()
        });
        for one in &seen {
            for producer in 0..4 {
                let order: Vec<_> = one.iter().filter(|(from, _)| *from == producer).collect();
                assert!(order.is_sorted(), "what one consumer gets of one producer is in order");
            }
        }
        let mut all: Vec<_> = seen.into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all.len(), 4 * EACH);
        all.dedup();
        assert_eq!(all.len(), 4 * EACH);
    }
}

#[cfg(all(test, loom))]
mod interleavings {
    use loom::sync::Arc;

    use super::{Ring, Takers, Who};

    /// A model in which threads wait for each other is tried up to so many preemptions.
    fn model(test: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.max_branches = 100_000;
        model.check(test);
    }

    #[test]
    fn the_favoured_producer_and_another_take_turns_in_every_order() {
        model(|| {
            let ring = Arc::new(Ring::new(4, Takers::One));
            let (mut one, mut two) = (Who::new(), Who::new());
            ring.reserve(&mut one).unwrap().fill(0);
            let other = {
                let ring = Arc::clone(&ring);
                loom::thread::spawn(move || ring.reserve(&mut two).unwrap().fill(20))
            };
            ring.reserve(&mut one).unwrap().fill(1);
            other.join().unwrap();
            let mut seen = Vec::new();
            ring.pop_some(4, |item| seen.push(item));
            assert!(seen == [0, 1, 20] || seen == [0, 20, 1], "{seen:?}");
        });
    }

    #[test]
    fn two_producers_and_a_consumer_in_every_order() {
        model(|| {
            let ring = Arc::new(Ring::new(2, Takers::Many));
            let producers: Vec<_> = (0..2)
                .map(|item| {
                    let ring = Arc::clone(&ring);
                    loom::thread::spawn(move || ring.push(item).is_ok())
                })
                .collect();
            let mut seen = Vec::new();
            ring.pop_some(2, |item| seen.push(item));
            let pushed = producers.into_iter().map(|p| p.join().unwrap()).filter(|ok| *ok).count();
            while let Some(item) = ring.pop() {
                seen.push(item);
            }
            seen.sort_unstable();
            assert_eq!(seen, [0, 1]);
            assert_eq!(pushed, 2);
        });
    }

    #[test]
    fn a_full_ring_that_is_shed_by_its_producer_loses_only_the_oldest() {
        model(|| {
            let ring = Arc::new(Ring::new(2, Takers::Many));
            ring.push(0).unwrap();
            ring.push(1).unwrap();
            let consumer = {
                let ring = Arc::clone(&ring);
                loom::thread::spawn(move || ring.pop())
            };
            let mut shed = Vec::new();
            if ring.push(2).is_err() {
                shed.extend(ring.pop());
                let _ = ring.push(2);
            }
            let mut seen: Vec<_> = consumer.join().unwrap().into_iter().chain(shed).collect();
            while let Some(item) = ring.pop() {
                seen.push(item);
            }
            seen.sort_unstable();
            assert!(seen == [0, 1, 2] || seen == [0, 1], "{seen:?}");
        });
    }
}
