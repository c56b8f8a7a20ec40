import Jobs
import TestSupport

/// One thing that happens in the simulated world. Numbers pick among what there is at that moment, modulo its count, so that a script
/// still means something when steps are taken out of it.
enum SimulationStep: Sendable, Hashable {
    /// What becomes of a message between the router and the broker.
    enum Fate: Sendable, Hashable {
        case confirmed
        /// The broker has it, and its confirmation never comes.
        case unconfirmed
        case lost
    }

    /// How the router gets through an input.
    enum Handling: Sendable, Hashable {
        case whole
        /// Committed; what follows is carried out later.
        case held
        case crashBeforeCommit
        /// Committed; the router is killed after it has carried out that many of the effects.
        case crashAfter(Int)
    }

    struct Ending: Sendable, Hashable {
        var outcome: JobExit.Outcome
        var kind = JobExit.Kind.completed
        var isRetriable = true
        /// The confirmation got lost, so the result is sent twice.
        var isSentTwice = false
        /// The worker's connection broke before its acknowledgement, so the hint comes again.
        var bringsHintBack = false
        /// The worker asks for the next job of the run with it.
        var asks = false
    }

    enum Command: Sendable, Hashable {
        case cancel(Int)
        case cancelRun
        case retry(Int)
        /// With other params, told apart by a number.
        case retryWith(Int, Int)
        case discard(Int)
        case retryRun
        case rerun(Int)
        case setPriority(Int, Priority)
        /// One of `SimulatedPlan.pausable`.
        case pause(Int)
        case resume(Int)
    }

    case send(Int, Fate)
    case confirm(Int, Handling)
    case deliver(Int, worker: Int)
    case loseHint(Int)
    case copyHint(Int)
    /// The router takes a claim, a renewal, a result or a command, in any order.
    case handle(Int, Handling)
    case copyMessage(Int)
    /// Claims and renewals are transient.
    case loseMessage(Int)
    /// A worker hears an answer or a control message.
    case hear(Int)
    case loseReply(Int)
    case askAgain(Int)
    case renew(Int)
    case end(Int, Ending)
    /// Seconds.
    case wait(Int)
    /// - isEager: takes every overdue hint for lost, whether the broker still has it or not.
    case sweep(isEager: Bool, Handling)
    case carryOut
    case killWorker(Int)
    case cutOff(Int)
    case reconnect(Int)
    case restartRouter
    case wipeBroker
    case command(Command)
}

// MARK: - Smaller scripts

extension SimulationStep {
    /// With the position of the job that it names instead of any number.
    func naming(jobs count: Int) -> SimulationStep {
        guard case .command(let command) = self, let job = command.job else { return self }
        return .command(command.naming(job % count))
    }

    /// - Returns: nil when it is about that job.
    func withoutJob(_ removed: Int) -> SimulationStep? {
        guard case .command(let command) = self, let job = command.job else { return self }
        return job == removed ? nil : .command(command.naming(job > removed ? job - 1 : job))
    }

    /// A result that is only told.
    var withoutQuestion: SimulationStep {
        guard case .end(let pick, var ending) = self else { return self }
        ending.asks = false
        return .end(pick, ending)
    }

    /// Picks another one, where any would do.
    func picking(_ pick: Int) -> SimulationStep {
        switch self {
        case .send(let old, let fate): old <= pick ? self : .send(pick, fate)
        case .confirm(let old, _): old <= pick ? self : .confirm(pick, .whole)
        case .deliver(let old, _): old <= pick ? self : .deliver(pick, worker: 0)
        case .handle(let old, let handling): old <= pick ? self : .handle(pick, handling)
        case .hear(let old): old <= pick ? self : .hear(pick)
        case .end(let old, let ending): old <= pick ? self : .end(pick, ending)
        case .renew(let old): old <= pick ? self : .renew(pick)
        case .copyHint(let old): old <= pick ? self : .copyHint(pick)
        case .copyMessage(let old): old <= pick ? self : .copyMessage(pick)
        case .loseHint, .loseMessage, .loseReply, .askAgain, .wait, .sweep, .carryOut, .killWorker, .cutOff, .reconnect, .restartRouter,
            .wipeBroker, .command:
            self
        }
    }
}

extension SimulationStep.Command {
    fileprivate var job: Int? {
        switch self {
        case .cancel(let job), .retry(let job), .retryWith(let job, _), .discard(let job), .rerun(let job), .setPriority(let job, _): job
        case .cancelRun, .retryRun, .pause, .resume: nil
        }
    }

    fileprivate func naming(_ job: Int) -> SimulationStep.Command {
        switch self {
        case .cancel: .cancel(job)
        case .retry: .retry(job)
        case .retryWith(_, let number): .retryWith(job, number)
        case .discard: .discard(job)
        case .rerun: .rerun(job)
        case .setPriority(_, let priority): .setPriority(job, priority)
        case .cancelRun, .retryRun, .pause, .resume: self
        }
    }
}

// MARK: - Random scripts

/// How rough one script is: each leaves out some of the hazards, so that the others show what they can do alone.
struct SimulationMood: Sendable {
    var crashes: Bool
    var losses: Bool
    var copies: Bool
    var workersFail: Bool
    var people: Int
    var failures: Int
    var asks: Bool

    init(_ random: inout SeededGenerator) {
        crashes = random.chance(2, in: 3)
        losses = random.chance(1, in: 2)
        copies = random.chance(2, in: 3)
        workersFail = random.chance(2, in: 3)
        people = [0, 2, 4, 10][random.below(4)]
        failures = random.below(5)
        asks = random.chance(1, in: 2)
    }

    func step(_ random: inout SeededGenerator) -> SimulationStep {
        let pick = random.below(1 << 16)
        return switch random.below(100 + people) {
        case 0..<13: .send(pick, fate(&random))
        case 13..<21: .confirm(pick, handling(&random))
        case 21..<35: .deliver(pick, worker: random.below(3))
        case 35..<62: .handle(pick, handling(&random))
        case 62..<73: .hear(pick)
        case 73..<83: .end(pick, ending(&random))
        case 83..<85: .renew(pick)
        case 85..<88: .wait([1, 2, 7, 20, 35, 70, 130][random.below(7)])
        case 88..<91: .sweep(isEager: random.chance(1, in: 4), handling(&random))
        case 91..<99: hazard(pick, &random)
        case 99: .carryOut
        default: .command(command(pick, &random))
        }
    }

    private func hazard(_ pick: Int, _ random: inout SeededGenerator) -> SimulationStep {
        switch random.below(12) {
        case 0 where copies: .copyHint(pick)
        case 1 where copies: .copyMessage(pick)
        case 2 where copies: .askAgain(pick)
        case 3 where losses: .loseHint(pick)
        case 4 where losses: .loseMessage(pick)
        case 5 where losses: .loseReply(pick)
        case 6 where losses && pick.isMultiple(of: 4): .wipeBroker
        case 7 where workersFail: .killWorker(random.below(3))
        case 8 where workersFail: .cutOff(random.below(3))
        case 9 where crashes: .restartRouter
        default: .reconnect(random.below(3))
        }
    }

    private func fate(_ random: inout SeededGenerator) -> SimulationStep.Fate {
        guard losses, random.chance(1, in: 8) else { return .confirmed }
        return random.chance(1, in: 2) ? .unconfirmed : .lost
    }

    private func handling(_ random: inout SeededGenerator) -> SimulationStep.Handling {
        switch random.below(24) {
        case 0 where crashes: .crashBeforeCommit
        case 1 where crashes: .crashAfter(random.below(4))
        case 2, 3: .held
        default: .whole
        }
    }

    private func ending(_ random: inout SeededGenerator) -> SimulationStep.Ending {
        var ending = SimulationStep.Ending(outcome: .succeeded)
        switch random.below(12) {
        case 0..<failures:
            ending.outcome = .failed
            ending.kind = JobExit.Kind.allCases[random.below(JobExit.Kind.allCases.count)]
            ending.isRetriable = random.chance(5, in: 6)
        case 10:
            ending.outcome = .released
            // By a worker that has not what the job needs.
            if random.chance(1, in: 3) { ending.kind = .resources }
        case 11: ending.outcome = .cancelled
        default: break
        }
        ending.isSentTwice = copies && random.chance(1, in: 8)
        ending.bringsHintBack = copies && random.chance(1, in: 8)
        ending.asks = asks && ending.outcome != .released && random.chance(2, in: 3)
        return ending
    }

    private func command(_ job: Int, _ random: inout SeededGenerator) -> SimulationStep.Command {
        switch random.below(19) {
        case 0..<3: .cancel(job)
        case 3: .cancelRun
        case 4..<7: .retry(job)
        case 7: .retryRun
        case 8..<10: .rerun(job)
        case 10..<12: .setPriority(job, Priority(rawValue: random.below(5)) ?? .default)
        case 12..<14: .pause(random.below(4))
        case 14..<16: .resume(random.below(4))
        case 16: .retryWith(job, random.below(3))
        default: .discard(job)
        }
    }
}
