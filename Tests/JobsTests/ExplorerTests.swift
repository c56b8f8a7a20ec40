import Foundation
import Testing

@testable import Jobs

/// Not some interleavings of a small world but all of them: two parents, one join, two workers, one duplicate, one crash.
@Suite struct ExplorerTests {
    private let join = SimulatedPlan(entries: [
        .init(), .init(), .init(edges: [.init(parent: 0, isLenient: false), .init(parent: 1, isLenient: false)]),
    ])

    @Test func everyInterleavingEndsWell() throws {
        let explored = try Explorer.explore(join, duplicates: 0, crashes: 0)
        #expect(explored.states > 100)
        #expect(explored.ends > 0)
    }

    @Test func everyInterleavingWithADuplicateEndsWell() throws {
        let explored = try Explorer.explore(join, duplicates: 1, crashes: 0)
        #expect(explored.ends > 0)
    }

    @Test func everyInterleavingWithACrashEndsWell() throws {
        let explored = try Explorer.explore(join, duplicates: 0, crashes: 1)
        #expect(explored.ends > 0)
    }

    @Test func everyInterleavingWithBothEndsWell() throws {
        let explored = try Explorer.explore(join, duplicates: 1, crashes: 1)
        #expect(explored.ends > 0)
    }

    /// Mistakes must not slip through its net.
    @Test func aBrokenRunIsFound() throws {
        let chain = SimulatedPlan(entries: [.init(), .init(edges: [.init(parent: 0, isLenient: false)])])
        #expect(throws: Violation.self) { try Explorer.explore(chain, duplicates: 0, crashes: 1, reducer: AmnesicReducer.self) }
        #expect(throws: Violation.self) { try Explorer.explore(chain, duplicates: 1, crashes: 0, reducer: GenerousReducer.self) }
    }
}

private struct AmnesicReducer: RunReducer {
    var rereadsOutbox: Bool { false }
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] { run.apply(input, at: now) }
}

private struct GenerousReducer: RunReducer {
    mutating func apply(_ input: RunInput, to run: inout Run, at now: Date) -> [RunEffect] {
        if case .claim(let job, let attempt, _, _, _, _) = input, run.jobs[job].state == .running, run.jobs[job].attempt == attempt {
            return [.grant(job: job, attempt: attempt, token: run.jobs[job].token)]
        }
        return run.apply(input, at: now)
    }
}

/// Breadth first over all states, each looked at once.
enum Explorer {
    struct Explored {
        var states = 0
        var ends = 0
    }

    private struct Node {
        var world: SimulatedWorld
        var duplicates: Int
        var crashes: Int
    }

    static func explore(
        _ plan: SimulatedPlan, duplicates: Int, crashes: Int, reducer: any RunReducer.Type = RealReducer.self
    ) throws(Violation) -> Explored {
        let start = Node(world: try SimulatedWorld(plan: plan, reducer: reducer), duplicates: duplicates, crashes: crashes)
        var explored = Explored()
        var seen: Set<UInt64> = [start.world.fingerprint(duplicates, crashes)]
        var layer = [start]
        while !layer.isEmpty {
            var next: [Node] = []
            for node in layer {
                explored.states += 1
                var isStuck = true
                for step in node.world.possibleSteps(duplicates: node.duplicates > 0, crashes: node.crashes > 0) {
                    var child = node
                    guard try child.world.perform(step) else { continue }
                    switch step {
                    case .copyHint, .copyMessage: child.duplicates -= 1
                    case .restartRouter, .killWorker, .handle(_, .crashBeforeCommit), .handle(_, .crashAfter), .confirm(_, .crashAfter):
                        child.crashes -= 1
                    default: isStuck = false
                    }
                    if seen.insert(child.world.fingerprint(child.duplicates, child.crashes)).inserted { next.append(child) }
                }
                guard isStuck else { continue }
                if node.world.isQuiet {
                    explored.ends += 1
                    guard node.world.run.state == .succeeded else {
                        throw Violation(rule: "liveness", text: "it ended \(node.world.run.state.rawValue)")
                    }
                    continue
                }
                // Nothing moves: time passes, leases run out, lost hints are missed.
                var later = node
                for step in [SimulationStep.wait(65), .sweep(isEager: false, .whole)] { _ = try later.world.perform(step) }
                guard seen.insert(later.world.fingerprint(later.duplicates, later.crashes)).inserted else {
                    let states = node.world.run.jobs.map(\.state.rawValue)
                    throw Violation(rule: "liveness", text: "nothing can happen any more: \(states)")
                }
                next.append(later)
            }
            layer = next
        }
        return explored
    }
}

extension SimulatedWorld {
    /// Every step that would act, hazards as far as they are left.
    func possibleSteps(duplicates: Bool, crashes: Bool) -> [SimulationStep] {
        var steps: [SimulationStep] = []
        for row in relay.indices { steps.append(.send(row, .confirmed)) }
        for confirmation in confirms.indices {
            steps.append(.confirm(confirmation, .whole))
            if crashes { steps.append(.confirm(confirmation, .crashAfter(0))) }
        }
        for hint in hints.indices {
            let free = (0..<2).filter { worker in !attempts.contains { $0.worker == worker } }
            // The workers are alike.
            if let worker = free.first { steps.append(.deliver(hint, worker: worker)) }
            if duplicates { steps.append(.copyHint(hint)) }
        }
        let free = messages.indices.filter { !messages[$0].isUnacknowledged }
        for (place, index) in free.enumerated() {
            steps.append(.handle(place, .whole))
            if crashes {
                steps.append(.handle(place, .crashBeforeCommit))
                for done in 0..<2 { steps.append(.handle(place, .crashAfter(done))) }
            }
            if duplicates { steps.append(.copyMessage(index)) }
        }
        for envelope in envelopes.indices { steps.append(.hear(envelope)) }
        let running = attempts.indices.filter { attempts[$0].token != nil && attempts[$0].exit == nil }
        for place in running.indices { steps.append(.end(place, SimulationStep.Ending(outcome: .succeeded))) }
        if crashes {
            for worker in 0..<2 where attempts.contains(where: { $0.worker == worker }) { steps.append(.killWorker(worker)) }
        }
        if free.isEmpty, envelopes.isEmpty, attempts.contains(where: { $0.token == nil }) { steps.append(.askAgain(0)) }
        return steps
    }

    /// The same for worlds that differ only in the numbers and the order of things, and in history that nothing reads any more.
    func fingerprint(_ duplicates: Int, _ crashes: Int) -> UInt64 {
        var sum: UInt64 = 0
        func add(_ numbers: Int...) {
            var hash: UInt64 = 0xcbf2_9ce4_8422_2325
            for number in numbers {
                hash = (hash ^ UInt64(bitPattern: Int64(number))) &* 0x9e37_79b9_7f4a_7c15
                hash ^= hash >> 29
            }
            sum &+= hash &* (hash | 1)
        }
        func key(_ hint: Hint) -> Int { hint.job << 16 | hint.attempt << 8 | hint.dispatch }
        func row(_ id: Int) -> Int { outbox.first { $0.id == id }.map { key($0.hint) } ?? -1 }
        func owner(_ id: Int?) -> Int {
            guard let id, let attempt = attempts.first(where: { $0.id == id }) else { return -1 }
            return key(attempt.hint) << 3 | attempt.worker << 1 | (attempt.token == nil ? 0 : 1)
        }
        add(0, duplicates, crashes)
        for (index, job) in run.jobs.enumerated() {
            let state = JobState.allCases.firstIndex(of: job.state) ?? 0
            add(
                1, index, state, job.reason.code.utf8.count, job.attempt, job.dispatch, job.token, job.crashes,
                owner(job.claim.flatMap { Int($0) }))
            for edge in job.dependencies { add(2, index, edge.parent, edge.satisfiedBy ?? 0) }
        }
        for row in outbox { add(3, key(row.hint)) }
        for id in relay { add(4, row(id)) }
        for id in confirms { add(5, row(id)) }
        for hint in hints { add(6, key(hint)) }
        for lease in leases { add(7, lease.job, lease.token) }
        for attempt in attempts { add(8, key(attempt.hint), attempt.worker, attempt.token ?? 0, attempt.asksWith == nil ? 0 : 1) }
        for message in messages {
            let state = message.isUnacknowledged ? 1 : 0
            switch message.letter {
            case .claim(let claim): add(9, key(claim.hint), owner(claim.id), state)
            case .renewal(let attempt, _): add(10, key(attempt.hint), state)
            case .result(let told, let question):
                add(11, told.job, told.attempt, told.token, state, question.map { owner($0.id) } ?? 0)
            case .command: add(12, state)
            }
        }
        for envelope in envelopes {
            switch envelope {
            case .stop(let job, let token): add(13, job, token)
            case .reply(let id, .go(let token)): add(14, owner(id), token)
            case .reply(let id, .next(let job, let attempt, let token)): add(19, owner(id), job, attempt, token)
            case .reply(let id, .no): add(15, owner(id))
            case .reply(let id, .renewed): add(16, owner(id))
            case .reply(let id, .lost): add(17, owner(id))
            case .reply(let id, .cancel): add(18, owner(id))
            }
        }
        return sum
    }
}
