//! Connection slots: a bounded number, none of which an idle client can hold.
//!
//! A connection waits for a request, or its request is being answered. When all slots are taken, the
//! connection that has waited longest is closed for the new one; but each has [`GRACE`] for its request to
//! arrive. Clients that send half a request, or none, therefore keep no other client out, however many they
//! are and however often they reconnect: a client that sends its request at once is served when its turn
//! comes.

use crate::sync::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a connection may wait for a request before it can be closed for another.
const GRACE: Duration = Duration::from_millis(100);

/// All slots of one port.
#[derive(Debug)]
pub(crate) struct Places {
    /// The number of requests that may be answered at once.
    most: usize,
    /// The number of additional slots for requests that are always answered.
    reserved: usize,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    /// The number of the last wait.
    last: u64,
    /// The connections that wait for a request, and since when, the longest wait first.
    waiting: BTreeMap<u64, (Instant, Arc<Notify>)>,
    /// The number of requests being answered.
    answered: usize,
    /// The number of those that are of the kind that is always answered.
    always: usize,
}

/// One connection's slot, returned when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    give_way: Arc<Notify>,
    at: Mutex<At>,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug)]
enum At {
    /// Waiting for a request, under this number.
    Waiting(u64),
    /// Its request is being answered; `always` if it is of the kind that always is.
    Answered { always: bool },
}

impl Places {
    pub(crate) fn new(most: usize, reserved: usize) -> Arc<Self> {
        Arc::new(Self { most, reserved, state: Mutex::default() })
    }

    /// Returns a slot for a new connection, as soon as another may be closed for it; `None` if requests are
    /// being answered in all slots.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<Place> {
        loop {
            match self.try_enter(Instant::now()) {
                Ok(place) => return Some(place),
                Err(Full::For(time)) => tokio::time::sleep(time).await,
                Err(Full::OfAnswered) => return None,
            }
        }
    }

    fn try_enter(self: &Arc<Self>, now: Instant) -> Result<Place, Full> {
        let give_way = Arc::new(Notify::new());
        let mut state = lock(&self.state);
        if state.taken() >= self.most.saturating_add(self.reserved) {
            let longest = state.waiting.first_entry().ok_or(Full::OfAnswered)?;
            let waited = now.saturating_duration_since(longest.get().0);
            if waited < GRACE {
                return Err(Full::For(GRACE.saturating_sub(waited)));
            }
            longest.remove().1.notify_one();
        }
        let at = Mutex::new(state.wait(now, &give_way));
        drop(state);
        Ok(Place { places: Arc::clone(self), give_way, at })
    }

    /// Returns the number of slots taken.
    pub(crate) fn taken(&self) -> usize {
        lock(&self.state).taken()
    }
}

/// The reason there is no free slot.
#[derive(PartialEq, Eq, Debug)]
enum Full {
    /// The longest wait is still within its grace period, for this long.
    For(Duration),
    /// Requests are being answered in all slots.
    OfAnswered,
}

impl State {
    fn taken(&self) -> usize {
        self.waiting.len() + self.answered
    }

    fn wait(&mut self, now: Instant, give_way: &Arc<Notify>) -> At {
        self.last += 1;
        self.waiting.insert(self.last, (now, Arc::clone(give_way)));
        At::Waiting(self.last)
    }
}

impl Place {
    /// A request is complete; `always` if it is of the kind that is always answered. Returns whether it may
    /// be answered now; call [`end`](Self::end) when it is.
    pub(crate) fn begin(&self, always: bool) -> bool {
        let (mut at, mut state) = (lock(&self.at), lock(&self.places.state));
        let At::Waiting(number) = *at else { return true };
        if !always && state.answered - state.always >= self.places.most {
            return false;
        }
        // A connection that was closed for another has no slot any more.
        let is_here = state.waiting.remove(&number).is_some();
        if is_here {
            state.answered += 1;
            state.always += usize::from(always);
            *at = At::Answered { always };
        }
        is_here
    }

    /// The request is answered: the connection waits for the next one.
    pub(crate) fn end(&self) {
        let (mut at, mut state) = (lock(&self.at), lock(&self.places.state));
        if let At::Answered { always } = *at {
            state.answered -= 1;
            state.always -= usize::from(always);
            *at = state.wait(Instant::now(), &self.give_way);
        }
    }

    /// Waits until another connection needs this slot.
    pub(crate) fn gives_way(&self) -> impl Future<Output = ()> + use<> {
        let give_way = Arc::clone(&self.give_way);
        async move { give_way.notified().await }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (at, mut state) = (lock(&self.at), lock(&self.places.state));
        match *at {
            At::Waiting(number) => drop(state.waiting.remove(&number)),
            At::Answered { always } => {
                state.answered -= 1;
                state.always -= usize::from(always);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    fn gives_way(place: &Place) -> bool {
        pin!(place.gives_way()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_connection_that_has_waited_longest_gives_way() {
        let (places, now) = (Places::new(2, 0), Instant::now());
        let [first, second] = [(); 2].map(|()| places.try_enter(now).expect("room"));
        assert!(first.begin(false));
        first.end();
        assert_eq!(places.try_enter(now).err(), Some(Full::For(GRACE)), "its request may be on its way");
        let third = places.try_enter(now + GRACE).expect("the second gives way");
        assert_eq!([&first, &second, &third].map(gives_way), [false, true, false]);
        assert!(!second.begin(false), "it came too late");
        drop(second);
        assert_eq!(places.taken(), 2);
    }

    #[test]
    fn a_request_that_is_answered_gives_way_to_none() {
        let (places, now) = (Places::new(1, 0), Instant::now());
        let first = places.try_enter(now).expect("room");
        assert!(first.begin(false) && first.begin(false));
        assert_eq!(places.try_enter(now + GRACE).err(), Some(Full::OfAnswered));
        first.end();
        let later = Instant::now() + GRACE;
        assert!(places.try_enter(later).is_ok() && gives_way(&first));
    }

    #[test]
    fn what_is_always_answered_has_places_of_its_own() {
        let (places, now) = (Places::new(1, 1), Instant::now());
        let [first, second] = [(); 2].map(|()| places.try_enter(now).expect("room"));
        assert!(first.begin(false));
        assert!(!second.begin(false) && second.begin(true));
        assert_eq!(places.try_enter(now + GRACE).err(), Some(Full::OfAnswered));
        drop(second);
        assert_eq!(places.taken(), 1);
        assert!(places.try_enter(now).expect("room").begin(true));
    }
}
