import AMQP
import Foundation
import Jobs
import Logging
import Pipeline
import ServiceLifecycle
import Synchronization
import Testing

@testable import Worker

@Suite(.timeLimit(.minutes(1))) struct WorkerServiceTests {
    private let run = RunID(milliseconds: 5, random: (1, 2))
    private let queue = PipelineQueue.jobs(channel: "default")

    @Test("Claim, run, report, acknowledge")
    func goes() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner())
        try await withWorker(router, runner) { source in
            let hint = put(source)
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            #expect(
                router.state.withLock { $0.claims.map { "\($0.job) \($0.attempt) \($0.dispatch ?? 0) \($0.worker)" } } == [
                    "\(job(0)) 1 1 w1"
                ])
            let result = try #require(router.state.withLock { $0.results }.first)
            #expect(result.job == job(0))
            #expect(result.attempt == 1)
            #expect(result.token == 10)
            #expect(result.worker == "w1")
            #expect(result.exit.outcome == .succeeded)
            #expect(runner.state.withLock { $0.started.map(\.headers) } == [["id": "h"]])
        }
        #expect(runner.state.withLock { $0.isShutDown })
    }

    @Test("With a result that others wait for, the next job is asked for and begun; the hint is kept until the last has ended")
    func goesOn() async throws {
        let (router, runner) = (FakeRouter { $0.leadsOn = true }, FakeRunner(mayEnd: false))
        var second = FakeRouter.order(job(1), attempt: 1, definition: router.state.withLock { $0.definition })
        second.leadsOn = true
        let third = FakeRouter.order(job(2), attempt: 3, definition: second.definition)
        router.state.withLock { $0.followers = [second, third] }
        try await withWorker(router, runner) { source in
            let hint = put(source)
            for count in 1...3 {
                #expect(await eventually { runner.state.withLock { $0.started.count } == count })
                #expect(hint.all.isEmpty)
                #expect(await eventually { router.state.withLock { $0.renewals.last?.leases.map(\.job) } == [job(count - 1)] })
                runner.finishOne()
            }
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            let (claims, results, peak) = (
                router.state.withLock { $0.claims.count }, router.state.withLock { $0.results }, runner.state.withLock { $0.peak }
            )
            #expect(claims == 1 && peak == 1)
            #expect(results.map(\.job) == [job(0), job(1), job(2)])
            #expect(results.map { $0.next?.channels } == [["default"], ["default"], nil], "nobody waits for the last one")
            #expect(results.map(\.token) == [10, 10, 30])
        }
    }

    @Test("The question for the next job is repeated under its own id until it is answered")
    func asksAgainForTheNext() async throws {
        let (router, runner) = (
            FakeRouter {
                $0.leadsOn = true
                $0.deafReports = 2
            }, FakeRunner()
        )
        router.state.withLock { $0.followers = [FakeRouter.order(job(1), attempt: 1, definition: $0.definition)] }
        try await withWorker(router, runner) { source in
            let hint = put(source)
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            let questions = router.state.withLock { $0.questions }
            #expect(questions.count == 3 && Set(questions).count == 1)
            #expect(runner.state.withLock { $0.started.map(\.job) } == [job(0), job(1)])
        }
    }

    @Test("A question that nobody answers is taken back in the end: the result counts, and the slot is free")
    func takesTheQuestionBack() async throws {
        let (router, runner) = (
            FakeRouter {
                $0.leadsOn = true
                $0.deafReports = 2
            }, FakeRunner()
        )
        try await withWorker(router, runner) {
            $0.questionLimit = .milliseconds(400)
        } _: { source in
            let hint = put(source)
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            let (results, questions) = (router.state.withLock { $0.results }, router.state.withLock { $0.questions })
            #expect(results.map { $0.next?.isWithdrawn } == [true] && results.map { $0.next?.id } == [questions.first])
            #expect(runner.state.withLock { $0.started.map(\.job) } == [job(0)])
        }
    }

    @Test("A drained worker asks for no next job; one that ends hands back what it is still given")
    func drainedAsksForNothing() async throws {
        let (router, runner) = (FakeRouter { $0.leadsOn = true }, FakeRunner(mayEnd: false))
        try await withWorker(router, runner) { source in
            let hint = put(source)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            control(source, ControlMessage(action: .drain, worker: "w1"))
            #expect(await eventually { router.state.withLock { $0.renewals.last?.worker.isDrained } == true })
            runner.finishAll()
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.questions.isEmpty })
        }
    }

    @Test("A refused claim is acknowledged and forgotten")
    func refused() async throws {
        let (router, runner) = (FakeRouter { $0.refusal = Reason("done", "It is done.") }, FakeRunner())
        try await withWorker(router, runner) { source in
            let hint = put(source)
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            #expect(runner.state.withLock { $0.started.isEmpty })
            #expect(router.state.withLock { $0.results.isEmpty })
        }
    }

    @Test("A router that does not answer is asked again, and the hint is kept")
    func deafRouter() async throws {
        let (router, runner) = (FakeRouter { $0.deafClaims = 2 }, FakeRunner())
        try await withWorker(router, runner) { source in
            let hint = put(source)
            #expect(await eventually { router.state.withLock { $0.claims.count } == 2 })
            #expect(hint.all.isEmpty)
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.results.count } == 1)
        }
    }

    @Test("A result goes out until the broker has it; only then the hint is acknowledged, and the lease is kept")
    func deafBroker() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner) { source in
            let hint = put(source)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            router.state.withLock { $0.isBrokerAway = true }
            runner.finishAll()
            #expect(await eventually { runner.state.withLock { $0.running } == 0 })
            let renewals = router.state.withLock { $0.renewals.count }
            router.state.withLock { $0.deafReports = 1_000_000 }
            router.state.withLock { $0.isBrokerAway = false }
            #expect(await eventually { router.state.withLock { $0.renewals.count } > renewals + 1 })
            #expect(router.state.withLock { $0.renewals.last?.leases.map(\.token) } == [10])
            #expect(hint.all.isEmpty)
            router.state.withLock { $0.deafReports = 0 }
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.results.count } == 1)
        }
    }

    @Test("A message that nobody can read goes to the dead letters with its reason", arguments: ["{", "{}", "[1]"])
    func unreadable(_ body: String) async throws {
        let (router, runner) = (FakeRouter(), FakeRunner())
        try await withWorker(router, runner) { source in
            let settlements = Settlements()
            source.put(settlements.delivery(Array(body.utf8), type: HintMessage.type), into: queue)
            source.put(settlements.delivery(Array("{}".utf8), type: "something.else"), into: queue)
            let good = put(source)
            #expect(await eventually { good.all == [.ack(multiple: false)] && settlements.all.count == 2 })
            #expect(settlements.all == [.ack(multiple: false), .ack(multiple: false)])
            let reasons = router.state.withLock { $0.putAside }
            #expect(reasons.count == 2)
            #expect(reasons.contains { $0.contains("something.else") })
        }
    }

    @Test("Jobs at a time: as many as slots, whatever arrives")
    func slots() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner, { $0.slots = 2 }) { source in
            let hints = (0..<6).map { put(source, $0) }
            #expect(await eventually { runner.state.withLock { $0.running } == 2 })
            runner.finishAll()
            #expect(await eventually { hints.allSatisfy { $0.all == [.ack(multiple: false)] } })
            #expect(runner.state.withLock { $0.peak } == 2)
        }
    }

    @Test("A hint that no slot is free for goes back for another worker")
    func surplus() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner, { $0.patience = .milliseconds(20) }) { source in
            let first = put(source, 0)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            let second = put(source, 1)
            #expect(await eventually { second.all == [.nack(requeue: true, multiple: false)] })
            runner.finishAll()
            #expect(await eventually { first.all == [.ack(multiple: false)] })
        }
    }

    @Test("A copy of a hint that is in hand is acknowledged without asking")
    func copy() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner, { $0.slots = 2 }) { source in
            let first = put(source)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            let second = put(source)
            #expect(await eventually { second.all == [.ack(multiple: false)] })
            #expect(first.all.isEmpty)
            #expect(router.state.withLock { $0.claims.count } == 1)
            runner.finishAll()
            #expect(await eventually { first.all == [.ack(multiple: false)] })
        }
    }

    @Test("A control message cancels the job with its token")
    func cancelled() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner, { $0.slots = 2 }) { source in
            let (doomed, other) = (put(source, 0), put(source, 1))
            #expect(await eventually { runner.state.withLock { $0.running } == 2 })
            let control = Settlements()
            for token in [9, 10] {
                let message = PipelineJSON.encode(ControlMessage(action: .cancel, job: job(0), token: token))
                source.put(control.delivery(message, type: ControlMessage.type), into: PipelineQueue.control(worker: "w1"))
            }
            #expect(await eventually { doomed.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == [.cancelled])
            #expect(router.state.withLock { $0.results.map(\.progress) } == [.init(fraction: 0.5)])
            #expect(control.all.count == 2)
            #expect(other.all.isEmpty)
            runner.finishAll()
            #expect(await eventually { other.all == [.ack(multiple: false)] })
        }
    }

    @Test("The answer to a heartbeat cancels too; a lost lease ends the job without a word")
    func heartbeat() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner, { $0.slots = 2 }) { source in
            let (cancelled, lost) = (put(source, 0), put(source, 1))
            #expect(await eventually { router.state.withLock { $0.renewals.last?.leases.count { $0.progress != nil } } == 2 })
            router.state.withLock {
                $0.renewReply = RenewReply(cancel: [.init(job: job(0), token: 10)], lost: [.init(job: job(1), token: 10)])
            }
            #expect(await eventually { cancelled.all.count == 1 && lost.all.count == 1 })
            #expect(router.state.withLock { $0.results.map(\.job) } == [job(0)])
            let renewals = router.state.withLock { $0.renewals }
            #expect(renewals.contains { $0.leases.contains { $0.progress == .init(fraction: 0.5) } })
            #expect(renewals.first?.worker.state == .running)
            #expect(renewals.first?.worker.slots == 2)
        }
    }

    @Test("An export ends by our own clock when no heartbeat is answered, and may write nothing more; a Python job goes on")
    func leaseOver() async throws {
        for kind in [JobKind.export, .python] {
            let (router, runner) = (FakeRouter { $0.leaseSeconds = 4 }, FakeRunner(mayEnd: false))
            router.state.withLock { $0.definition.kind = kind }
            try await withWorker(router, runner) { source in
                let hint = put(source)
                #expect(await eventually { runner.state.withLock { $0.running } == 1 })
                let isStillMine = try #require(runner.state.withLock { $0.isStillMine })
                // As long as heartbeats are answered the lease does not end, however long the job is.
                let start = ContinuousClock.now
                #expect(await eventually { ContinuousClock.now - start > .seconds(3) })
                #expect(isStillMine())
                #expect(hint.all.isEmpty)
                router.state.withLock { $0.isBrokerAway = true }
                #expect(await eventually { !isStillMine() })
                if kind == .export {
                    #expect(await eventually { hint.all == [.ack(multiple: false)] })
                    #expect(runner.state.withLock { $0.running } == 0)
                } else {
                    #expect(runner.state.withLock { $0.running } == 1)
                    router.state.withLock { $0.isBrokerAway = false }
                    runner.finishAll()
                    #expect(await eventually { hint.all == [.ack(multiple: false)] })
                }
            }
            #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == (kind == .export ? [] : [.succeeded]))
        }
    }

    @Test("Told to stop: takes nothing new, lets jobs end within the grace, says goodbye")
    func stopsInTime() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        let first = Settlements()
        let late = Settlements()
        try await withWorker(router, runner, stop: false) { source, _, stop in
            source.put(first.delivery(HintMessage(job: job(0), attempt: 1, dispatch: 1)), into: queue)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            await stop()
            #expect(await eventually { router.state.withLock { $0.renewals.last?.worker.state } == .draining })
            source.put(late.delivery(HintMessage(job: job(1), attempt: 1, dispatch: 1)), into: queue)
            runner.finishAll()
        }
        #expect(first.all == [.ack(multiple: false)])
        #expect(late.all.isEmpty)
        #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == [.succeeded])
        #expect(router.state.withLock { $0.renewals.last?.worker.state } == .stopped)
        #expect(router.state.withLock { $0.renewals.last?.leases.isEmpty } == true)
    }

    @Test("Told to stop: a job that does not end within the grace is handed back")
    func stopsLate() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        let hint = Settlements()
        try await withWorker(router, runner, { $0.grace = .milliseconds(50) }, stop: false) { source, _, stop in
            source.put(hint.delivery(HintMessage(job: job(0), attempt: 1, dispatch: 1)), into: queue)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            await stop()
        }
        #expect(hint.all == [.ack(multiple: false)])
        #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == [.released])
    }

    @Test("Told to stop while the broker is away: it ends all the same")
    func stopsWithoutBroker() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(
            router, runner,
            {
                $0.grace = .milliseconds(20)
                $0.killGrace = .milliseconds(20)
                $0.farewell = .milliseconds(20)
            }, stop: false
        ) { source, _, stop in
            put(source, 0)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            router.state.withLock { $0.isBrokerAway = true }
            await stop()
        }
        #expect(runner.state.withLock { $0.isShutDown })
        #expect(router.state.withLock { $0.results.isEmpty })
    }

    // MARK: -

    private func job(_ index: Int) -> JobID { JobID(run: run, index: index) }

    @discardableResult
    private func put(_ source: FakeSource, _ index: Int = 0) -> Settlements {
        let settlements = Settlements()
        source.put(settlements.delivery(HintMessage(job: job(index), attempt: 1, dispatch: 1)), into: queue)
        return settlements
    }

    @Test("A drained worker ends what it runs and takes nothing more, says so, and goes on when it is resumed")
    func drains() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner) { source in
            let running = put(source)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            control(source, ControlMessage(action: .drain, worker: "another"))
            control(source, ControlMessage(action: .drain, worker: "w1"))
            #expect(await eventually { router.state.withLock { $0.renewals.last?.worker.isDrained == true } })
            #expect(router.state.withLock { $0.renewals.last?.worker.state } == .draining)
            #expect(runner.state.withLock { $0.running } == 1)
            runner.finishAll()
            #expect(await eventually { running.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == [.succeeded])
            let later = put(source, 1)
            let heartbeats = router.state.withLock { $0.renewals.count }
            #expect(await eventually { router.state.withLock { $0.renewals.count } > heartbeats + 5 })
            #expect(later.all.isEmpty)
            #expect(router.state.withLock { $0.claims.count } == 1)
            control(source, ControlMessage(action: .undrain, worker: "w1"))
            #expect(await eventually { later.all == [.ack(multiple: false)] })
            #expect(await eventually { router.state.withLock { $0.renewals.last?.worker.state == .running } })
        }
    }

    @Test("A control message that this version does not know is for others: it is acknowledged and forgotten")
    func unknownControl() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner())
        try await withWorker(router, runner) { source in
            let settlements = Settlements()
            let body = Array(#"{"action": "dance", "worker": "w1", "more": [1]}"#.utf8)
            source.put(settlements.delivery(body, type: ControlMessage.type), into: PipelineQueue.control(worker: "w1"))
            #expect(await eventually { settlements.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.putAside } == [])
        }
    }

    @Test("A second SIGTERM kills the jobs at once and hands them back")
    func stopsNow() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner(mayEnd: false))
        try await withWorker(router, runner, { $0.grace = .seconds(3600) }, stop: false) { source, worker, stop in
            let hint = put(source)
            #expect(await eventually { runner.state.withLock { $0.running } == 1 })
            await stop()
            #expect(await eventually { router.state.withLock { $0.renewals.last?.worker.state == .draining } })
            #expect(hint.all.isEmpty)
            worker.stopNow()
            #expect(await eventually { hint.all == [.ack(multiple: false)] })
            #expect(router.state.withLock { $0.results.map(\.exit.outcome) } == [.released])
            #expect(await eventually { runner.state.withLock { $0.isShutDown } })
        }
    }

    @Test("Heartbeats say how the machine is")
    func machine() async throws {
        let (router, runner) = (FakeRouter(), FakeRunner())
        try await withWorker(router, runner, { $0.gpus = ["0", "1"] }) { _ in
            #expect(await eventually { router.state.withLock { !$0.renewals.isEmpty } })
        }
        let info = try #require(router.state.withLock { $0.renewals.first?.worker })
        #expect(info.load?.count == 3)
        #expect(try #require(info.freeMemory) > 0)
        #expect(try #require(info.memory) >= #require(info.freeMemory))
        #expect(info.gpus == 2)
        #expect(info.isDrained == false)
    }

    private func control(_ source: FakeSource, _ message: ControlMessage) {
        let delivery = Settlements().delivery(PipelineJSON.encode(message), type: ControlMessage.type)
        source.put(delivery, into: PipelineQueue.control(worker: "w1"))
    }

    private func withWorker(
        _ router: FakeRouter,
        _ runner: FakeRunner,
        _ change: (inout WorkerConfiguration) -> Void = { _ in },
        _ body: (FakeSource) async throws -> Void
    ) async throws {
        try await withWorker(router, runner, change, stop: true) { source, _, _ in try await body(source) }
    }

    /// Runs a worker for the time of `body`, which may stop it; waits for its end.
    private func withWorker(
        _ router: FakeRouter,
        _ runner: FakeRunner,
        _ change: (inout WorkerConfiguration) -> Void = { _ in },
        stop: Bool,
        _ body: (FakeSource, WorkerService, () async -> Void) async throws -> Void
    ) async throws {
        var configuration = WorkerConfiguration(id: "w1")
        configuration.heartbeat = .milliseconds(10)
        change(&configuration)
        let logger = Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        let source = FakeSource()
        let worker = WorkerService(
            configuration: configuration, source: source, router: router, runner: runner, readiness: nil, logger: logger)
        let group = ServiceGroup(services: [worker], logger: logger)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask { try await group.run() }
            try await body(source, worker) { await group.triggerGracefulShutdown() }
            await group.triggerGracefulShutdown()
            try await tasks.waitForAll()
        }
    }
}
