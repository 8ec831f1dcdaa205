------------------------------ MODULE Kontiki ------------------------------
(***************************************************************************)
(* The protocol of kontiki-core: Raft with writes that reach the disk one  *)
(* by one, joint membership, learners, witnesses, incarnations, snapshots. *)
(*                                                                         *)
(* Everything that a member does is an act of that member alone: Act(s, a) *)
(* is the set of what its state s may become by the act a, empty where the *)
(* protocol forbids it. A step of the kernel is a sequence of acts, and    *)
(* Settle at its end. Model checking (Next) and the validation of traces   *)
(* (KontikiTrace) use the same acts. README.md says what is not modelled.  *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets

CONSTANT Nobody        \* no member: the vote of a member that has not voted

-----------------------------------------------------------------------------
(* Values.                                                                 *)
(* A member is <<id, incarnation>>. A log position is [i, t]: index, term. *)
(* An entry is [t, v, c]: its term, its payload, and {} or the set of the  *)
(* membership that it holds.                                               *)

Blank == 0             \* the payload of the entry with which a leader begins
Withheld == -1         \* what a witness has in the place of a payload
Config == -2           \* an entry that holds a membership
Lost == -3             \* what the disk has damaged: which entry it was is known

New == 1000000         \* a promise that waits for the write of this very step
None == -1             \* no index

Min(S) == CHOOSE x \in S : \A y \in S : x <= y
Max(S) == CHOOSE x \in S : \A y \in S : x >= y
Lower(a, b) == IF a < b THEN a ELSE b
Upper(a, b) == IF a > b THEN a ELSE b

Entry(t, v) == [t |-> t, v |-> v, c |-> {}]
ConfigEntry(t, c) == [t |-> t, v |-> Config, c |-> {c}]
WithheldOf(e) == IF e.v >= 1 THEN [e EXCEPT !.v = Withheld] ELSE e

(* At least as up-to-date (paper 5.4.1).                                   *)
AtLeast(a, b) == a.t > b.t \/ (a.t = b.t /\ a.i >= b.i)

-----------------------------------------------------------------------------
(* Memberships: new, the voters; old, while joint, those before; learners; *)
(* demoted, learners once the joint phase is over; witnesses; and who, all *)
(* members with their incarnations.                                        *)

Plain(voters) == [new |-> voters, old |-> {}, learners |-> {}, demoted |-> {}, witnesses |-> {},
                  who |-> {<<id, 0>> : id \in voters}]

Voters(c) == c.new \cup c.old

HasMajority(set, ids) == 2 * Cardinality(set \cap ids) > Cardinality(set)

Quorum(c, ids) == c.new # {} /\ HasMajority(c.new, ids) /\ (c.old = {} \/ HasMajority(c.old, ids))

FewWitnesses(set, c) == LET w == Cardinality(set \cap c.witnesses) IN w = 0 \/ 2 * w < Cardinality(set)

Left(c) == LET learners == c.learners \cup c.demoted
               stays == c.new \cup learners
           IN [c EXCEPT !.old = {}, !.demoted = {}, !.learners = learners,
                        !.witnesses = @ \cap stays, !.who = {m \in @ : m[1] \in stays}]

(* One change at a time: at most one voter comes or goes, or both sets     *)
(* decide. An id never changes its incarnation without being removed.      *)
MayFollow(c, d) ==
    IF c.old # {} THEN d = Left(c)
    ELSE /\ d.new # {}
         /\ \A p \in c.who, q \in d.who : p[1] = q[1] => p = q
         /\ \/ d.old = {} /\ Cardinality(c.new \ d.new) + Cardinality(d.new \ c.new) <= 1
            \/ d.old = c.new
         /\ FewWitnesses(d.new, d) /\ FewWitnesses(d.old, d)

-----------------------------------------------------------------------------
(* The state of a member.                                                  *)
(*   me, term, vote, role        the paper's; role is a string             *)
(*   log, base, snap, confs      the log in memory: entries after base, the*)
(*                               snapshot that it rests on, and            *)
(*                               every membership in it ([i, c])           *)
(*   commit, agreed              agreed: the log is the leader's up to here*)
(*   dur, known                  what the member knows to be on its disk:  *)
(*                               the log up to here, and the ballot        *)
(*   disk, pend                  what is there, and writes under way       *)
(*   held                        promises: each waits for n writes         *)
(*   votes, match                of a candidate; of a leader               *)
(*   fetch                       snapshots that it was offered             *)
(*   past                        snapshots that a leader's log rested on   *)
(*   written, cut, rebased       what the next write must say              *)
(*   out                         promises that leave with this step        *)

NoMatch == [m \in {} |-> 0]
NoSnap == [i |-> 0, t |-> 0, ci |-> 0, c |-> {}]
Zero == [i |-> 0, t |-> 0]

EmptyDisk == [term |-> 0, vote |-> Nobody, log |-> <<>>, base |-> Zero, snap |-> NoSnap]

(* A member that starts from its disk, as a follower without a leader.     *)
RECURSIVE ConfsOf(_, _, _)
ConfsOf(es, i, n) ==
    IF n > Len(es) THEN <<>>
    ELSE IF es[n].c = {} THEN ConfsOf(es, i, n + 1)
    ELSE <<[i |-> i + n, c |-> es[n].c]>> \o ConfsOf(es, i, n + 1)

AfterIndex(confs, i) == SelectSeq(confs, LAMBDA c : c.i > i)
ThroughIndex(confs, i) == SelectSeq(confs, LAMBDA c : c.i <= i)

SnapConf(snap) == IF snap.c = {} THEN <<>> ELSE <<[i |-> snap.ci, c |-> snap.c]>>

Started(me, disk, commit) ==
    LET last == disk.base.i + Len(disk.log) IN
    [me |-> me, term |-> disk.term, vote |-> disk.vote, role |-> "follower",
     log |-> disk.log, base |-> disk.base, snap |-> disk.snap,
     confs |-> SnapConf(disk.snap) \o AfterIndex(ConfsOf(disk.log, disk.base.i, 1), disk.snap.i),
     commit |-> commit, agreed |-> commit,
     dur |-> last, known |-> <<disk.term, disk.vote>>, disk |-> disk, pend |-> <<>>,
     held |-> {}, votes |-> {}, match |-> NoMatch, fetch |-> {}, past |-> {},
     written |-> last, cut |-> None, rebased |-> FALSE, out |-> {}]

(* The first members begin with a snapshot of nothing that says who they   *)
(* are; any other with an empty disk.                                      *)
FirstDisk(c) == [EmptyDisk EXCEPT !.snap = [i |-> 0, t |-> 0, ci |-> 0, c |-> {c}]]

LastIndex(s) == s.base.i + Len(s.log)
TermAt(s, i) == IF i = s.base.i THEN s.base.t
                ELSE IF i > s.base.i /\ i <= LastIndex(s) THEN s.log[i - s.base.i].t ELSE -1
Last(s) == [i |-> LastIndex(s), t |-> TermAt(s, LastIndex(s))]
Contains(s, id) == TermAt(s, id.i) = id.t
Slice(s, after, through) == SubSeq(s.log, after - s.base.i + 1, through - s.base.i)

IsBlank(s) == s.confs = <<>>
Conf(s) == IF IsBlank(s) THEN Plain({}) ELSE CHOOSE c \in s.confs[Len(s.confs)].c : TRUE
ConfIndex(s) == IF IsBlank(s) THEN 0 ELSE s.confs[Len(s.confs)].i
ConfAsOf(s, i) == LET before == ThroughIndex(s.confs, i) IN before[Len(before)]

VotesIn(me, c) == me \in c.who /\ me[1] \in Voters(c) \ c.witnesses

HasLost(s) == \E n \in DOMAIN s.log : s.log[n].v = Lost
Readable(s) == LET lost == {n \in DOMAIN s.log : s.log[n].v = Lost} IN
               IF lost = {} THEN LastIndex(s) ELSE s.base.i + Min(lost) - 1

(* A voter of the latest membership, or of the one before as long as the   *)
(* latest is not known to be committed; and none that has lost entries.    *)
MayLead(s) ==
    /\ ~IsBlank(s) /\ ~HasLost(s)
    /\ \/ VotesIn(s.me, Conf(s))
       \/ /\ ConfIndex(s) > s.commit /\ Len(s.confs) > 1
          /\ \E c \in s.confs[Len(s.confs) - 1].c : VotesIn(s.me, c)

-----------------------------------------------------------------------------
(* Parts of acts.                                                          *)

Follow(s) == [s EXCEPT !.role = "follower"]

(* A promise is held until all that its step writes is on the disk, in the *)
(* term in which it was made.                                              *)
Promise(s, m) == [s EXCEPT !.held = @ \cup {[n |-> New, m |-> m]}]

AckOf(s) == [k |-> "ack", from |-> s.me, t |-> s.term, matched |-> Lower(s.agreed, Readable(s))]

Appended(s, es) ==
    [s EXCEPT !.log = @ \o es, !.confs = @ \o ConfsOf(es, LastIndex(s), 1)]

(* A completed write says nothing of entries that were replaced since.     *)
Capped(pend, i) == [n \in DOMAIN pend |-> [pend[n] EXCEPT !.through = Lower(@, i)]]

Truncated(s, i) ==
    LET t == [s EXCEPT !.log = SubSeq(@, 1, i - s.base.i), !.confs = ThroughIndex(@, i),
                       !.dur = Lower(@, i)]
    IN IF s.written <= i THEN t
       ELSE [t EXCEPT !.written = i, !.cut = IF @ = None THEN i ELSE Lower(@, i),
                      !.pend = Capped(@, i)]

(* Entries that are here already stay: a late message removes nothing.     *)
Repaired(s, from, es) ==
    LET n == Len(es)
        was(i) == i - s.base.i
        mends(i) == LET e == i - from IN
                    e >= 1 /\ e <= n /\ es[e].t = s.log[was(i)].t /\ s.log[was(i)].v = Lost /\ es[e].v # Lost
    IN IF HasLost(s)
       THEN [s EXCEPT !.log = [x \in DOMAIN s.log |->
                IF mends(x + s.base.i) THEN es[x + s.base.i - from] ELSE s.log[x]]]
       ELSE s

Adopted(s, m) ==
    LET new == {n \in DOMAIN m.ents : TermAt(s, m.prev.i + n) # m.ents[n].t}
        agreed == Upper(s.agreed, m.prev.i + Len(m.ents))
        mended == Repaired(s, m.prev.i, m.ents)
    IN IF new = {} THEN {[mended EXCEPT !.agreed = agreed]}
       ELSE LET first == Min(new)
                index == m.prev.i + first
                kept == IF index <= LastIndex(s) THEN Truncated(mended, index - 1) ELSE mended
            IN IF index <= Upper(s.agreed, s.commit) THEN {}
               ELSE {[Appended(kept, SubSeq(m.ents, first, Len(m.ents))) EXCEPT !.agreed = agreed]}

(* What each voter has on its disk, as far as this leader knows.           *)
Matched(s, id) ==
    IF id = s.me[1] THEN s.dur
    ELSE LET c == Conf(s)
             known == {m \in DOMAIN s.match : m[1] = id /\ m \in c.who}
         IN IF known = {} THEN 0 ELSE Max({s.match[m] : m \in known})

(* By counting, a leader commits an entry of its own term alone (5.4.2).   *)
Committable(s, limit) ==
    LET c == Conf(s) IN
    {i \in s.commit + 1 .. Lower(limit, LastIndex(s)) :
        /\ TermAt(s, i) = s.term
        /\ Quorum(c, {id \in Voters(c) : Matched(s, id) >= i})}

SnapshotAt(s, i) == LET c == ConfAsOf(s, i) IN [i |-> i, t |-> TermAt(s, i), ci |-> c.i, c |-> c.c]

(* The log begins later, behind a snapshot of what is committed and on the *)
(* disk.                                                                   *)
Compacted(s, snap, base) ==
    [s EXCEPT !.snap = snap, !.rebased = TRUE,
              !.past = IF s.role = "leader" THEN @ \cup {s.snap} ELSE @,
              !.confs = <<ConfAsOf(s, snap.i)>> \o AfterIndex(@, snap.i),
              !.log = SubSeq(@, base.i - s.base.i + 1, Len(@)), !.base = base]

(* A snapshot takes the place of a log that does not reach so far.         *)
Installed(s, snap) ==
    [s EXCEPT !.log = <<>>, !.base = [i |-> snap.i, t |-> snap.t], !.snap = snap, !.confs = SnapConf(snap),
              !.cut = IF s.written > snap.i THEN (IF @ = None THEN snap.i ELSE Lower(@, snap.i)) ELSE @,
              !.written = snap.i, !.rebased = TRUE, !.dur = Lower(@, s.commit),
              !.pend = Capped(@, s.commit), !.commit = snap.i, !.agreed = Upper(@, snap.i)]

-----------------------------------------------------------------------------
(* The disk: one ordered stream of writes.                                 *)

Put(d, w) ==
    LET cut == IF w.cut = None THEN d.log ELSE SubSeq(d.log, 1, w.cut - d.base.i)
        kept == IF w.rebase = {} THEN [log |-> cut, base |-> d.base, snap |-> d.snap]
                ELSE LET r == CHOOSE r \in w.rebase : TRUE IN
                     [log |-> SubSeq(cut, r.base.i - d.base.i + 1, Len(cut)), base |-> r.base, snap |-> r.snap]
        mended == [n \in DOMAIN kept.log |->
                     IF kept.log[n].v = Lost /\ \E r \in w.mended : r.i = kept.base.i + n
                     THEN (CHOOSE r \in w.mended : r.i = kept.base.i + n).e ELSE kept.log[n]]
    IN [term |-> w.term, vote |-> w.vote, log |-> mended \o w.app, base |-> kept.base, snap |-> kept.snap]

RECURSIVE PutAll(_, _, _)
PutAll(d, ws, n) == IF n = 0 THEN d ELSE PutAll(Put(d, Head(ws)), Tail(ws), n - 1)

LastBallot(s) == IF s.pend = <<>> THEN s.known
                 ELSE <<s.pend[Len(s.pend)].term, s.pend[Len(s.pend)].vote>>

Unwritten(s) == \/ s.cut # None \/ s.rebased \/ s.written # LastIndex(s)
                \/ LastBallot(s) # <<s.term, s.vote>>

(* What was lost on the disk, and came back since it was last written.     *)
Mends(s) == IF ~\E n \in DOMAIN s.disk.log : s.disk.log[n].v = Lost THEN {}
            ELSE {[i |-> s.base.i + n, e |-> s.log[n]] :
                    n \in {n \in DOMAIN s.log : s.log[n].v # Lost /\ s.base.i + n <= s.written}}

(* The end of a step: what has changed becomes one write, if anything has; *)
(* what is promised waits for it; what need not wait any more leaves. A    *)
(* member may write though nothing has changed.                            *)
Settle(s, writes) ==
    LET w == [term |-> s.term, vote |-> s.vote, cut |-> s.cut,
              app |-> Slice(s, s.written, LastIndex(s)), through |-> LastIndex(s),
              mended |-> Mends(s),
              rebase |-> IF s.rebased THEN {[base |-> s.base, snap |-> s.snap]} ELSE {}]
        pend == IF writes THEN Append(s.pend, w) ELSE s.pend
        held == {[h EXCEPT !.n = IF @ = New THEN Len(pend) ELSE @] : h \in s.held}
    IN [s EXCEPT !.pend = pend, !.written = LastIndex(s), !.cut = None, !.rebased = FALSE,
                 !.held = {h \in held : h.n > 0},
                 !.out = {h.m : h \in {h \in held : h.n <= 0}}]

Persisted(s, n) ==
    LET w == s.pend[n] IN
    [s EXCEPT !.disk = PutAll(@, s.pend, n), !.pend = SubSeq(@, n + 1, Len(@)),
              !.known = <<w.term, w.vote>>, !.dur = Upper(@, w.through),
              !.held = {[h EXCEPT !.n = @ - n] : h \in @}]

-----------------------------------------------------------------------------
(* The acts. Those that handle a message have it in a.m.                   *)

FromLeader == {"append", "beat", "offer"}

Act(s, a) ==
    CASE a.k = "enter" ->          \* a message of a later term
           IF a.m.t > s.term
           THEN {[Follow(s) EXCEPT !.term = a.m.t, !.vote = Nobody, !.votes = {}, !.match = NoMatch,
                                   !.agreed = s.commit, !.past = {}]}
           ELSE {}
      [] a.k = "vote" ->           \* a vote is given, once per term
           IF /\ a.m.k = "ask" /\ a.m.t = s.term /\ s.vote \in {Nobody, a.m.from[1]}
              /\ AtLeast(a.m.last, Last(s)) /\ ~IsBlank(s)
           THEN {Promise([s EXCEPT !.vote = a.m.from[1]],
                         [k |-> "vote", from |-> s.me, t |-> s.term, for |-> a.m.from])}
           ELSE {}
      [] a.k = "granted" ->        \* a vote is counted
           IF a.m.k = "vote" /\ a.m.t = s.term /\ a.m.for = s.me /\ s.vote = s.me[1]
           THEN {[s EXCEPT !.votes = @ \cup {a.m.from}]} ELSE {}
      [] a.k = "campaign" ->
           IF MayLead(s) /\ s.role # "leader"
           THEN LET c == [s EXCEPT !.term = @ + 1, !.vote = s.me[1], !.role = "candidate", !.votes = {},
                                   !.agreed = s.commit] IN
                {Promise(c, [k |-> "ask", from |-> s.me, t |-> c.term, last |-> Last(s)])}
           ELSE {}
      [] a.k = "prepare" ->        \* it asks beforehand; what it asked in this term still counts
           IF MayLead(s) /\ s.role # "leader" THEN {[s EXCEPT !.role = "pre-candidate"]} ELSE {}
      [] a.k = "rest" -> {Follow(s)}
      [] a.k = "halt" -> {[s EXCEPT !.role = "halted"]}
      [] a.k = "lead" ->           \* by a majority of votes, its own once that is on the disk
           IF /\ s.role \in {"candidate", "pre-candidate"} /\ s.vote = s.me[1]
              /\ s.known = <<s.term, s.vote>> /\ MayLead(s)
              /\ Quorum(Conf(s), {v[1] : v \in s.votes} \cup {s.me[1]})
           THEN {Appended([s EXCEPT !.role = "leader", !.match = NoMatch, !.past = {}], <<Entry(s.term, Blank)>>)}
           ELSE {}
      [] a.k = "propose" ->
           IF s.role = "leader" /\ a.e.t = s.term /\ a.e.v >= 1 /\ a.e.c = {}
           THEN {Appended(s, <<a.e>>)} ELSE {}
      [] a.k = "change" ->         \* the last change is committed, and an entry of its own term
           IF /\ s.role = "leader" /\ ConfIndex(s) <= s.commit /\ TermAt(s, s.commit) = s.term
              /\ MayFollow(Conf(s), a.c)
           THEN {Appended(s, <<ConfigEntry(s.term, a.c)>>)} ELSE {}
      [] a.k = "append" ->         \* a follower takes entries, where its log has the one before
           IF a.m.k = "append" /\ a.m.t = s.term /\ s.role # "leader"
           THEN IF IsBlank(s) \/ a.m.prev.i < s.base.i \/ ~Contains(s, a.m.prev)
                THEN LET f == Follow(s) IN {Promise(f, AckOf(f))}
                ELSE {LET f == Follow(r) IN Promise(f, AckOf(f)) : r \in Adopted(s, a.m)}
           ELSE {}
      [] a.k = "hear" ->           \* a leader of this term is heard
           IF a.m.k \in FromLeader /\ a.m.t = s.term /\ s.role # "leader" THEN {Follow(s)} ELSE {}
      [] a.k = "commit" ->         \* a follower commits what it shares with its leader
           IF /\ a.m.k \in {"append", "beat"} /\ a.m.t = s.term /\ s.role = "follower"
              /\ a.i <= Lower(a.m.commit, s.agreed)
           THEN {[s EXCEPT !.commit = Upper(@, a.i)]} ELSE {}
      [] a.k = "reach" ->          \* a leader commits what a majority has, no further than it says
           IF s.role = "leader"
           THEN LET reached == Committable(s, a.i) IN
                {IF reached = {} THEN s ELSE [s EXCEPT !.commit = Max(reached)]}
           ELSE {}
      [] a.k = "match" ->
           IF a.m.k = "ack" /\ a.m.t = s.term /\ s.role = "leader" /\ a.m.matched <= LastIndex(s)
           THEN {[s EXCEPT !.match = [m \in DOMAIN @ \cup {a.m.from} |->
                    IF m # a.m.from THEN @[m]
                    ELSE IF m \in DOMAIN @ THEN Upper(@[m], a.m.matched) ELSE a.m.matched]]}
           ELSE {}
      [] a.k = "offer" ->          \* the leader, or another member, has a snapshot
           IF a.m.k \in {"offer", "mend-snapshot"} /\ a.m.t = s.term /\ s.role # "leader"
           THEN LET f == IF a.m.k = "offer" THEN Follow(s) ELSE s
                    begun == IF IsBlank(f) /\ a.m.snap.i = 0
                             THEN [f EXCEPT !.snap = a.m.snap, !.confs = SnapConf(a.m.snap), !.rebased = TRUE] ELSE f
                    has == IF ~IsBlank(begun) /\ Contains(begun, a.m.snap)
                           THEN [begun EXCEPT !.commit = Upper(@, a.m.snap.i), !.agreed = Upper(@, a.m.snap.i)]
                           ELSE [begun EXCEPT !.fetch = @ \cup {a.m.snap}]
                IN {Promise(has, AckOf(has))}
           ELSE {}
      [] a.k = "fetched" ->        \* the bytes of a snapshot are here
           IF a.snap \in s.fetch /\ s.role # "leader"
           THEN LET r == IF ~IsBlank(s) /\ Contains(s, a.snap)
                         THEN [s EXCEPT !.commit = Upper(@, a.snap.i), !.agreed = Upper(@, a.snap.i)]
                         ELSE IF a.snap.i > s.commit THEN Installed(s, a.snap) ELSE s
                    ready == [r EXCEPT !.fetch = {}]
                IN {IF r.role = "follower" THEN Promise(ready, AckOf(ready)) ELSE ready}
           ELSE {}
      [] a.k = "compact" ->
           IF /\ a.snap.i <= Lower(s.commit, s.dur) /\ a.snap.i >= s.snap.i /\ a.base.i <= a.snap.i
              /\ a.base.i >= s.base.i /\ Contains(s, a.base) /\ a.snap = SnapshotAt(s, a.snap.i)
           THEN {Compacted(s, a.snap, a.base)} ELSE {}
      [] a.k = "mend" ->           \* a copy of what was lost: the same id is the same entry
           IF a.m.k = "mend" /\ a.m.t = s.term THEN {Repaired(s, a.m.prev.i, a.m.ents)} ELSE {}
      [] a.k = "persisted" ->      \* the disk has the first n of the writes under way
           IF a.n >= 1 /\ a.n <= Len(s.pend) THEN {Persisted(s, a.n)} ELSE {}
      [] a.k = "restart" ->        \* a crash keeps the first n writes, and then it starts again
           IF a.n >= 0 /\ a.n <= Len(s.pend)
           THEN LET d == PutAll(s.disk, s.pend, a.n) IN
                IF a.i >= d.snap.i /\ a.i <= Lower(Upper(s.commit, d.snap.i), d.base.i + Len(d.log))
                THEN {Started(s.me, d, a.i)} ELSE {}
           ELSE {}
      [] a.k = "wipe" ->           \* the disk is lost; another life begins
           {Started(<<s.me[1], s.me[2] + 1>>, EmptyDisk, 0)}
      [] OTHER -> {}

-----------------------------------------------------------------------------
(* What a member may say without waiting. Promises are not among it: they  *)
(* leave by way of held and out.                                           *)

(* A leader's entries may leave before its own disk has them.              *)
MaySayAsLeader(s, m) ==
    /\ s.role = "leader" /\ m.t = s.term
    /\ CASE m.k = "append" ->
              /\ Contains(s, m.prev) /\ m.prev.i >= s.base.i /\ m.commit <= s.commit
              /\ m.prev.i + Len(m.ents) <= LastIndex(s)
              /\ \/ m.ents = Slice(s, m.prev.i, m.prev.i + Len(m.ents))
                 \/ m.ents = [n \in DOMAIN m.ents |-> WithheldOf(s.log[m.prev.i + n - s.base.i])]
         [] m.k = "beat" -> m.commit <= s.commit
         \* it repeats the offer of a snapshot, though it may have taken another since
         [] m.k = "offer" -> m.snap \in {s.snap} \cup s.past /\ s.snap.c # {}
         [] OTHER -> FALSE

MaySay(s, m) ==
    CASE m.k \in FromLeader -> MaySayAsLeader(s, m)
      \* a heartbeat's answer says what is on the disk, the leader's term included
      [] m.k = "ack" -> /\ m.t = s.term /\ s.role = "follower"
                        /\ \/ m.matched = 0
                           \/ s.known[1] = s.term /\ m.matched <= Lower(Lower(s.agreed, s.dur), Readable(s))
      [] m.k = "mend" -> /\ Contains(s, m.prev) /\ m.prev.i + Len(m.ents) <= Readable(s)
                         /\ \A n \in DOMAIN m.ents :
                              m.ents[n] \in {s.log[m.prev.i + n - s.base.i],
                                             WithheldOf(s.log[m.prev.i + n - s.base.i])}
      [] m.k = "mend-snapshot" -> m.snap = s.snap
      [] OTHER -> FALSE
=============================================================================
