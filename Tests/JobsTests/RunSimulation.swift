import Foundation
import Jobs

/// SplitMix64: the same seed gives the same run on every machine.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// One run in a hostile world: hints and results are duplicated, dropped, late and out of order, workers die, people interfere.
///
/// Plays the router around the run: it keeps what a committed outbox would hold, and sweeps what got lost.
struct RunSimulation {
    struct Violation: Error, CustomStringConvertible {
        var description: String
    }

    private struct Hint: Hashable {
        var job: Int
        var attempt: Int
        var dispatch: Int
    }

    private struct Attempt: Hashable {
        var job: Int
        var attempt: Int
        var token: Int
    }

    private(set) var run: Run
    private var random: SeededGenerator
    private var hints: [Hint] = []
    private var running: [Attempt] = []
    /// Workers that the router believes lost but that still report one day.
    private var zombies: [Attempt] = []
    private var granted: Set<Attempt> = []
    private var applied: Set<Attempt> = []
    /// Tells claims apart.
    private var claims = 0
    private var now = Date(timeIntervalSince1970: 1_700_000_000)

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        let plan = Self.plan(&random)
        run = Run(id: RunID(milliseconds: seed, random: (seed, seed)), plan: plan)
    }

    /// Plays until the run has ended and everything late has arrived.
    mutating func play() throws {
        try apply(.start)
        var steps = 0
        while run.state == .active || !hints.isEmpty || !running.isEmpty || !zombies.isEmpty {
            steps += 1
            guard steps < 5000 else { throw Violation(description: "the run does not end: \(run.jobs.map(\.state))") }
            // People interfere early; then the run must end by itself.
            try step(mayInterfere: steps < 200)
        }
        try checkEnd()
    }

    private mutating func step(mayInterfere: Bool) throws {
        now += Double.random(in: 0...20, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<35: try deliverHint()
        case 35..<65: try reportResult()
        case 65..<72: try loseWorker()
        case 72..<78: try reportLate()
        case 78..<82: dropHint()
        case 82..<86: duplicateHint()
        case 86..<90 where mayInterfere: try interfere()
        default: try sweep()
        }
    }

    private mutating func deliverHint() throws {
        guard let index = hints.indices.randomElement(using: &random) else { return }
        let hint = hints.remove(at: index)
        if Bool.random(using: &random) { try apply(.hintConfirmed(job: hint.job, attempt: hint.attempt, dispatch: hint.dispatch)) }
        claims += 1
        try apply(
            .claim(
                job: hint.job, attempt: hint.attempt, worker: "w", id: "\(claims)", isPaused: Int.random(in: 0..<20, using: &random) == 0))
    }

    private mutating func reportResult() throws {
        guard let index = running.indices.randomElement(using: &random) else { return }
        let attempt = running[index]
        let outcome: JobExit.Outcome = [.succeeded, .succeeded, .succeeded, .failed, .released, .cancelled].randomElement(using: &random)!
        let exit = JobExit(
            outcome: outcome, kind: outcome == .failed ? .exception : .completed, startedAt: now, finishedAt: now,
            isRetriable: Int.random(in: 0..<10, using: &random) > 0)
        try apply(.result(job: attempt.job, attempt: attempt.attempt, token: attempt.token, exit: exit))
        // A result that is delivered twice.
        if Int.random(in: 0..<4, using: &random) == 0 {
            try apply(.result(job: attempt.job, attempt: attempt.attempt, token: attempt.token, exit: exit))
        }
        running.removeAll { $0 == attempt }
    }

    private mutating func loseWorker() throws {
        guard let index = running.indices.randomElement(using: &random) else { return }
        let attempt = running.remove(at: index)
        zombies.append(attempt)
        try apply(.leaseExpired(job: attempt.job, token: attempt.token))
        try apply(.leaseExpired(job: attempt.job, token: attempt.token))
    }

    private mutating func reportLate() throws {
        guard let index = zombies.indices.randomElement(using: &random) else { return }
        let attempt = zombies.remove(at: index)
        let before = run
        let exit = JobExit(outcome: .succeeded, kind: .completed, startedAt: now, finishedAt: now)
        try apply(.result(job: attempt.job, attempt: attempt.attempt, token: attempt.token, exit: exit))
        guard run == before else { throw Violation(description: "a late result of a lost worker changed the run") }
    }

    private mutating func dropHint() {
        if let index = hints.indices.randomElement(using: &random) { hints.remove(at: index) }
    }

    private mutating func duplicateHint() {
        if let hint = hints.randomElement(using: &random) { hints.append(hint) }
    }

    private mutating func interfere() throws {
        let job = Int.random(in: 0..<max(1, run.jobs.count), using: &random)
        let input: RunInput = [
            .cancel(job: job, actor: "a"), .retry(job: job, actor: "a"), .retryAll(actor: "a"), .channelResumed(channel: "default"),
        ].randomElement(using: &random)!
        try apply(input)
    }

    /// What the router's sweep does: hints that nobody has any more are sent again; a resumed channel goes on.
    private mutating func sweep() throws {
        now += 120
        for index in run.jobs.indices {
            let job = run.jobs[index]
            let hint = Hint(job: index, attempt: job.attempt, dispatch: job.dispatch)
            guard [.ready, .dispatched, .retrying].contains(job.state), !hints.contains(hint) else { continue }
            try apply(.hintLost(job: index, attempt: job.attempt, dispatch: job.dispatch))
        }
        try apply(.channelResumed(channel: "default"))
    }

    private mutating func apply(_ input: RunInput) throws {
        let before = run
        for effect in run.apply(input, at: now) {
            switch effect {
            case .hint(let job, let attempt, let dispatch, let delay, _):
                if delay == nil { now += 0 } else { now += Double(delay!.seconds) }
                hints.append(Hint(job: job, attempt: attempt, dispatch: dispatch))
            case .grant(let job, let attempt, let token):
                let new = Attempt(job: job, attempt: attempt, token: token)
                guard granted.insert(new).inserted else { throw Violation(description: "I5: token \(token) of job \(job) granted twice") }
                running.append(new)
            case .attemptEnded(let job, let attempt, let token, _):
                let ended = Attempt(job: job, attempt: attempt, token: token)
                guard applied.insert(ended).inserted else { throw Violation(description: "I6: attempt of job \(job) ended twice") }
            default: continue
            }
        }
        try check(input, before)
    }

    private func check(_ input: RunInput, _ before: Run) throws {
        for index in run.jobs.indices {
            let job = run.jobs[index]
            if [.ready, .dispatched, .running, .retrying].contains(job.state) {
                guard job.dependencies.allSatisfy({ $0.satisfiedBy != nil }) else {
                    throw Violation(description: "I4: job \(index) is \(job.state) with an open dependency")
                }
            }
            let isCommand =
                switch input {
                case .retry, .retryAll, .rerun: true
                default: false
                }
            if before.jobs[index].state.isTerminal, job != before.jobs[index], !isCommand {
                throw Violation(description: "I9: \(input) changed job \(index), which had ended")
            }
            if job.crashes > Run.crashLimit { throw Violation(description: "I11: job \(index) crashed \(job.crashes) times") }
            if job.token < before.jobs[index].token { throw Violation(description: "a token went backwards") }
        }
        guard run.jobs.allSatisfy(\.state.isTerminal) == run.state.isTerminal else {
            throw Violation(description: "the run is \(run.state) with jobs \(run.jobs.map(\.state))")
        }
    }

    private func checkEnd() throws {
        for (index, job) in run.jobs.enumerated() where job.state == .succeeded {
            for edge in job.dependencies where edge.condition == .succeeded {
                guard edge.satisfiedBy != nil else { throw Violation(description: "I4: job \(index) ran with an open dependency") }
            }
        }
    }
}

extension RunSimulation {
    private static func plan(_ random: inout SeededGenerator) -> RunPlan {
        let count = Int.random(in: 0...14, using: &random)
        var stages = (0..<count).map { _ in Stage.allCases.randomElement(using: &random)! }
        stages.sort { Stage.allCases.firstIndex(of: $0)! < Stage.allCases.firstIndex(of: $1)! }
        return RunPlan(
            jobs: (0..<count).map { index in
                let isFinalizer = stages[index] == .post && Int.random(in: 0..<4, using: &random) == 0
                let parents = (0..<index).filter { _ in Int.random(in: 0..<3, using: &random) == 0 }
                return RunPlan.Entry(
                    definition: JobDefinition(
                        name: "job\(index)", service: "s", stage: stages[index], entry: "m.f",
                        retry: RetryPolicy(max: Int.random(in: 0...2, using: &random), delay: 5),
                        isFinalizer: isFinalizer,
                        isStoring: stages[index] == .post && Int.random(in: 0..<4, using: &random) == 0),
                    dependencies: parents.map {
                        let isLenient = isFinalizer || Int.random(in: 0..<5, using: &random) == 0
                        return Dependency(parent: $0, condition: isLenient ? .finished : .succeeded, origin: .declared)
                    },
                    skipped: Int.random(in: 0..<12, using: &random) == 0 ? Reason(Reason.notAcceptedCode, "not accepted") : nil
                )
            }
        )
    }
}
