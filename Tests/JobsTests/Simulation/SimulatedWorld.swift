import Foundation

@testable import Jobs

/// Everything around one run: the router with its ledger and its memory, the broker, workers and people.
///
/// Only the ledger outlives the router; only the broker's queues and the workers go on while it is away.
struct SimulatedWorld {
    struct Row {
        var id: Int
        var isHint: Bool
        var hint: Hint
        /// Seconds; nil goes to the channel's queue at once.
        var pause: Double?
    }

    struct Hint: Hashable {
        var job: Int
        var attempt: Int
        var dispatch: Int
        var due = 0.0
    }

    struct Lease {
        var job: Int
        var token: Int
        var deadline: Double
    }

    /// What a commit leaves to be done.
    enum AfterCommit {
        case send(Int)
        case extendLease(Int, token: Int)
        case releaseLease(Int)
        case reply(Int, Reply)
        case stop(Int, token: Int)
        case acknowledge(Int)
    }

    enum Reply {
        case go(token: Int)
        /// The answer to a result: the job that the worker goes on with.
        case next(job: Int, attempt: Int, token: Int)
        case no
        case renewed(askedAt: Double)
        case lost
        case cancel
    }

    enum Letter {
        case claim(Attempt)
        case renewal(Attempt, askedAt: Double)
        case result(Told, next: Question?)
        case command(id: Int, SimulationStep.Command)
    }

    struct Told {
        var job: Int
        var attempt: Int
        var token: Int
        var exit: JobExit
    }

    /// A worker that asks with a result for the next job.
    struct Question {
        var id: Int
        var worker: Int
    }

    struct Message {
        var id: Int
        var letter: Letter
        var isUnacknowledged = false
    }

    /// What a worker does about one hint.
    struct Attempt {
        /// The claim's.
        var id: Int
        var worker: Int
        var hint: Hint
        var askedAt: Double
        /// Set once it was granted.
        var token: Int?
        var leaseUntil = 0.0
        /// What it would report if its worker reached the broker.
        var exit: JobExit?
        var holdsHint = true
        /// The result with which it asked for whatever comes next; nil for a claim, and once it is answered.
        var asksWith: Told?
    }

    /// To one attempt, or a control message to whoever runs a token.
    enum Envelope {
        case reply(attempt: Int, Reply)
        case stop(job: Int, token: Int)
    }

    // The ledger.
    private(set) var run: Run
    var outbox: [Row] = []
    var paused = PausedWork.none
    var doneCommands: Set<Int> = []
    // The router's memory.
    var leases: [Lease] = []
    var relay: [Int] = []
    var after: [AfterCommit] = []
    // The broker.
    var hints: [Hint] = []
    var confirms: [Int] = []
    var messages: [Message] = []
    var envelopes: [Envelope] = []
    // The workers.
    var attempts: [Attempt] = []
    var isCutOff = [false, false, false]

    var now = 1_700_000_000.0
    private var lastID = 0
    private var reducer: any RunReducer
    private(set) var audit: RunAudit

    init(plan: SimulatedPlan, reducer: any RunReducer.Type) throws(Violation) {
        self.reducer = reducer.init()
        run = Run(id: RunID(milliseconds: 1, random: (2, 3)), plan: plan.plan)
        audit = RunAudit(run)
        try commit(.start)
        carryOut()
        try checkLedger()
    }

    var isQuiet: Bool { run.state.isTerminal && hints.isEmpty && messages.isEmpty && outbox.isEmpty && attempts.isEmpty && after.isEmpty }

    mutating func nextID() -> Int {
        lastID += 1
        return lastID
    }
}

// MARK: - The router

extension SimulatedWorld {
    static var leaseTime: Double { 30 }
    static var hintPatience: Double { 60 }
    static var age: Double { 100 }

    /// One transaction, with what has to follow it.
    @discardableResult
    mutating func commit(_ input: RunInput) throws(Violation) -> [RunEffect] {
        let before = run
        let effects = reducer.apply(input, to: &run, at: Date(timeIntervalSince1970: now))
        for effect in effects {
            switch effect {
            case .hint(let job, let attempt, let dispatch, let delay, let pause):
                let hint = Hint(job: job, attempt: attempt, dispatch: dispatch)
                write(Row(id: nextID(), isHint: true, hint: hint, pause: delay == nil ? nil : pause))
            case .deadLetter(let job, let attempt):
                write(Row(id: nextID(), isHint: false, hint: Hint(job: job, attempt: attempt, dispatch: run.jobs[job].dispatch)))
            case .attemptEnded(let job, _, _, _): after.append(.releaseLease(job))
            case .stop(let job, let token): after.append(.stop(job, token: token))
            case .grant, .deny, .renewed, .leaseLost, .attemptStarted, .jobChanged, .runChanged, .discarded, .refused: continue
            }
        }
        try audit.check(input, before: before, after: run, effects, paused: paused, now: now)
        return effects
    }

    private mutating func write(_ row: Row) {
        outbox.append(row)
        after.append(.send(row.id))
    }

    mutating func carryOut(upTo limit: Int = .max) {
        let due = after.prefix(limit)
        after.removeFirst(due.count)
        for action in due {
            switch action {
            case .send(let row): relay.append(row)
            case .extendLease(let job, let token):
                leases.removeAll { $0.job == job }
                leases.append(Lease(job: job, token: token, deadline: now + Self.leaseTime))
            case .releaseLease(let job): leases.removeAll { $0.job == job }
            case .reply(let attempt, let reply): envelopes.append(.reply(attempt: attempt, reply))
            case .stop(let job, let token): envelopes.append(.stop(job: job, token: token))
            case .acknowledge(let id): messages.removeAll { $0.id == id }
            }
        }
    }

    /// Gets an input through the router, or a part of the way.
    mutating func handle(_ handling: SimulationStep.Handling, _ body: (inout Self) throws(Violation) -> Void) throws(Violation) {
        if handling == .crashBeforeCommit {
            restart()
            return
        }
        let earlier = after.count
        try body(&self)
        switch handling {
        case .held: break
        case .crashAfter(let count):
            carryOut(upTo: earlier + count)
            restart()
        case .whole, .crashBeforeCommit: carryOut()
        }
    }

    /// The router dies, and starts with what the ledger holds.
    mutating func restart() {
        after.removeAll()
        confirms.removeAll()
        for index in messages.indices { messages[index].isUnacknowledged = false }
        relay = reducer.rereadsOutbox ? outbox.map(\.id) : []
        leases.removeAll()
        guard reducer.rereadsLeases else { return }
        leases = run.jobs.indices.filter { run.jobs[$0].state == .running }.map {
            Lease(job: $0, token: run.jobs[$0].token, deadline: now + Self.leaseTime)
        }
    }

    mutating func confirm(_ row: Int) throws(Violation) {
        guard let index = outbox.firstIndex(where: { $0.id == row }) else { return }
        let row = outbox.remove(at: index)
        guard row.isHint else { return }
        try commit(.hintConfirmed(job: row.hint.job, attempt: row.hint.attempt, dispatch: row.hint.dispatch))
    }

    mutating func take(_ message: Message) throws(Violation) {
        switch message.letter {
        case .claim(let claim):
            let input = RunInput.claim(
                job: claim.hint.job, attempt: claim.hint.attempt, dispatch: claim.hint.dispatch, worker: Self.workers[claim.worker],
                id: String(claim.id), paused: paused)
            for effect in try commit(input) {
                switch effect {
                case .grant(let job, _, let token):
                    after.append(.extendLease(job, token: token))
                    after.append(.reply(claim.id, .go(token: token)))
                case .deny: after.append(.reply(claim.id, .no))
                default: continue
                }
            }
        case .renewal(let attempt, let askedAt):
            guard let token = attempt.token else { break }
            for effect in try commit(.renewal(job: attempt.hint.job, attempt: attempt.hint.attempt, token: token)) {
                switch effect {
                case .renewed(let job):
                    after.append(.extendLease(job, token: token))
                    after.append(.reply(attempt.id, .renewed(askedAt: askedAt)))
                case .leaseLost: after.append(.reply(attempt.id, .lost))
                case .stop: after.append(.reply(attempt.id, .cancel))
                default: continue
                }
            }
        case .result(let told, let question):
            let floors = Dictionary(uniqueKeysWithValues: run.channelsWaiting(behind: told.job).map { ($0, Priority.low) })
            let next = question.map {
                NextClaim(worker: Self.workers[$0.worker], id: String($0.id), floors: floors, paused: paused)
            }
            var reply = Reply.no
            for case .grant(let job, let attempt, let token) in try commit(
                .result(job: told.job, attempt: told.attempt, token: told.token, exit: told.exit, next: next))
            {
                after.append(.extendLease(job, token: token))
                reply = .next(job: job, attempt: attempt, token: token)
            }
            if let question { after.append(.reply(question.id, reply)) }
        case .command(let id, let command):
            if doneCommands.insert(id).inserted { try carryOut(command) }
        }
        after.append(.acknowledge(message.id))
        if let index = messages.firstIndex(where: { $0.id == message.id }) { messages[index].isUnacknowledged = true }
    }

    private static var workers: [String] { ["w0", "w1", "w2"] }

    private mutating func carryOut(_ command: SimulationStep.Command) throws(Violation) {
        let count = run.jobs.count
        switch command {
        case .cancel(let job): try commit(.cancel(job: job % count, actor: "p"))
        case .cancelRun: try commit(.cancelAll(actor: "p"))
        case .retry(let job): try commit(.retry(job: job % count, actor: "p"))
        case .retryWith(let job, let number):
            try commit(.retry(job: chosen(job) { $0.discarded != nil }, actor: "p", params: ["n": .integer(Int64(number))]))
        case .discard(let job): try commit(.discard(job: chosen(job) { $0.state == .dead && $0.discarded == nil }, actor: "p"))
        case .retryRun: try commit(.retryAll(actor: "p"))
        case .rerun(let job): try commit(.rerun(job: job % count, actor: "p"))
        case .setPriority(let job, let priority): try commit(.setPriority(job: job % count, priority: priority, actor: "p"))
        case .pause(let number): paused.set(SimulatedPlan.pausable[number], true)
        case .resume(let number):
            paused.set(SimulatedPlan.pausable[number], false)
            try commit(.resumed(paused: paused))
        }
    }

    /// A job that the command is meant for, when there is one: those that chance points to seldom are.
    private func chosen(_ number: Int, _ isMeant: (Job) -> Bool) -> Int {
        let meant = run.jobs.indices.filter { isMeant(run.jobs[$0]) }
        return meant.isEmpty ? number % run.jobs.count : meant[number % meant.count]
    }

    /// What no message tells: leases that ran out, hints that got lost, jobs that have waited long.
    mutating func sweep(isEager: Bool) throws(Violation) {
        for lease in leases where lease.deadline <= now {
            after.append(.releaseLease(lease.job))
            try commit(.leaseExpired(job: lease.job, token: lease.token))
        }
        for index in run.jobs.indices {
            guard let since = run.jobs[index].waitsInQueueSince else { continue }
            let (attempt, dispatch) = (run.jobs[index].attempt, run.jobs[index].dispatch)
            let waited = now - since.timeIntervalSince1970
            if waited > Self.hintPatience, isEager || !hints.contains(where: { $0.job == index && $0.attempt == attempt }) {
                try commit(.hintLost(job: index, attempt: attempt, dispatch: dispatch))
            } else if waited > Self.age {
                try commit(.aged(job: index, attempt: attempt, dispatch: dispatch))
                try audit.checkAged(run.jobs[index], index)
            }
        }
    }

    /// What has to be true of ledger and router together, whenever everything committed has been carried out.
    func checkLedger() throws(Violation) {
        for index in run.jobs.indices {
            switch run.jobs[index].state {
            case .ready:
                let (attempt, dispatch) = (run.jobs[index].attempt, run.jobs[index].dispatch)
                if run.jobs[index].isPaused {
                    guard paused.holds(run.jobs[index].definition) != nil else {
                        throw Violation(rule: "I10", text: "job \(index) waits for the resumption of what is not paused")
                    }
                } else if !outbox.contains(where: {
                    $0.isHint && $0.hint.job == index && $0.hint.attempt == attempt && $0.hint.dispatch == dispatch
                }) {
                    throw Violation(rule: "I7", text: "job \(index) is ready, and the outbox has no hint for it")
                }
            case .running:
                guard after.isEmpty else { continue }
                let token = run.jobs[index].token
                guard leases.contains(where: { $0.job == index && $0.token == token }) else {
                    throw Violation(rule: "I10", text: "job \(index) runs without a lease that could expire")
                }
            case .retrying:
                guard run.jobs[index].notBefore != nil else {
                    throw Violation(rule: "I10", text: "job \(index) is retrying without a time")
                }
            case .dispatched:
                guard run.jobs[index].dispatchedAt != nil else {
                    throw Violation(rule: "I10", text: "job \(index) is dispatched without a time")
                }
            case .waiting, .succeeded, .failed, .cancelled, .skipped, .dead: continue
            }
        }
        guard after.isEmpty else { return }
        for row in outbox where !relay.contains(row.id) && !confirms.contains(row.id) {
            throw Violation(rule: "I8", text: "row \(row.id) of the outbox is neither to be sent nor waits for its confirmation")
        }
    }
}

extension PausedWork {
    mutating func set(_ target: PauseTarget, _ isPaused: Bool) {
        switch target {
        case .channel(let name): channels.formSymmetricDifference(channels.contains(name) == isPaused ? [] : [name])
        case .service(let name): services.formSymmetricDifference(services.contains(name) == isPaused ? [] : [name])
        }
    }
}

extension Job {
    /// Since when a hint of it should stand in its channel's queue.
    fileprivate var waitsInQueueSince: Date? {
        switch state {
        case .dispatched: dispatchedAt
        case .retrying: notBefore
        case .waiting, .ready, .running, .succeeded, .failed, .cancelled, .skipped, .dead: nil
        }
    }
}
