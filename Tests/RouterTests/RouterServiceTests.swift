import AMQP
import Foundation
import JobStore
import Jobs
import Pipeline
import Stack
import Synchronization
import Testing

@testable import Bootstrap
@testable import Router

extension RouterBrokerTests {
    @Suite struct Service {
        func configuration() -> RouterConfiguration {
            var configuration = RouterConfiguration()
            configuration.rhythm.sweep = .milliseconds(200)
            configuration.rhythm.planning = .milliseconds(50)
            configuration.rhythm.planningPause = 0.1
            configuration.rhythm.hints = HintProbe.Timing(patience: 0.5, grace: 0.5, resend: 5)
            return configuration
        }

        @Test("A lost hint is found in a queue that is never empty")
        func lostHint() async throws {
            try await RouterStage.with { stage in
                try await stage.withRouter(configuration()) {
                    let queue = PipelineQueue.jobs(channel: "default")
                    // Copies that nobody needs stand before it and come after it: the queue is never empty, and counting finds nothing missing.
                    let stale = AMQPPublishing.pipeline(
                        exchange: PipelineExchange.jobs, routingKey: "default", type: HintMessage.type,
                        body: HintMessage(job: JobID(run: RunID(milliseconds: 5, random: (5, 5)), index: 0), attempt: 1, dispatch: 1),
                        priority: Priority.default.rawValue)
                    try await stage.publish(RouterStage.event("lost"))
                    let thief = Task {
                        try await stage.client.consume(queue, prefetch: 1) { deliveries in
                            for await delivery in deliveries {
                                delivery.ack()
                                return try delivery.decode(HintMessage.self, type: HintMessage.type)
                            }
                            throw CancellationError()
                        }
                    }
                    let stolen = try await thief.value
                    for _ in 0..<50 { try await stage.client.publish(stale) }
                    // A worker that claims what comes, slowly, and as fast as it takes one the queue gets another.
                    let emptiest = Mutex(Int.max)
                    let granted = try await stage.client.consume(queue, prefetch: 1) { deliveries in
                        let deadline = ContinuousClock.now + .seconds(40)
                        for await delivery in deliveries {
                            let hint = try delivery.decode(HintMessage.self, type: HintMessage.type)
                            let reply = try await stage.claim(hint)
                            delivery.ack()
                            try await stage.client.publish(stale)
                            let waiting = try await stage.client.inspect(queue).messages
                            emptiest.withLock { $0 = min($0, waiting) }
                            if case .go(let order) = reply { return Optional(order) }
                            if ContinuousClock.now > deadline { return nil }
                            try await Task.sleep(for: .milliseconds(20))
                        }
                        return nil
                    }
                    #expect(granted?.job == stolen.job)
                    #expect(granted?.attempt == stolen.attempt)
                    let least = emptiest.withLock { $0 }
                    #expect(least > 0)
                }
            }
        }

        @Test("Hints of a purged queue are sent again, also without any worker")
        func purgedQueue() async throws {
            try await RouterStage.with { stage in
                try await stage.withRouter(configuration()) {
                    let queue = PipelineQueue.jobs(channel: "default")
                    try await stage.publish(RouterStage.event("purged"))
                    _ = try await RouterStage.until("the hint is queued") {
                        try await stage.client.inspect(queue).messages > 0 ? true : nil
                    }
                    try await stage.drain(queue)
                    _ = try await RouterStage.until("the hint is sent again") {
                        try await stage.client.inspect(queue).messages > 0 ? true : nil
                    }
                }
            }
        }

        @Test("An event that cannot be planned holds nobody up, and ends as a failed run and a dead letter")
        func poisonEvent() async throws {
            try await RouterStage.with { stage in
                var configuration = configuration()
                configuration.planAttempts = 3
                try await stage.withRouter(configuration, python: "/nowhere/python3") {
                    // No callback is asked for a series, so it needs no Python.
                    try await stage.publish(RouterStage.event("poison"))
                    try await stage.publish(RouterStage.event("good", level: .series))
                    let good = try await RouterStage.until("the good one is a run") {
                        try await stage.reader.runs(LedgerRunFilter(event: "good"), limit: 1).items.first
                    }
                    #expect(good.state == .declined)
                    let failed = try await RouterStage.until("the poisoned one is given up") {
                        try await stage.reader.runs(LedgerRunFilter(event: "poison"), limit: 1).items.first
                    }
                    #expect(failed.state == .failed)
                    #expect(failed.reason?.code == "planning-given-up")
                    #expect(failed.reason?.text.contains("/nowhere/python3") == true)
                    let dead = try await RouterStage.until("the dead letter is recorded") {
                        try await stage.reader.deadMessages(limit: 5).items.first
                    }
                    #expect(dead.type == EventMessage.type)
                    // The event has its run: sent again, it would do nothing.
                    #expect(!dead.hasBody && dead.problem?.contains("reprocess that run") == true)
                    let waiting = try await stage.client.inspect(PipelineQueue.dead).messages
                    #expect(waiting == 1)
                }
            }
        }

        @Test("A command from anybody with the right on the exchange is carried out")
        func foreignCommand() async throws {
            try await RouterStage.with { stage in
                try await stage.withRouter(configuration()) {
                    try await stage.publish(RouterStage.event("commanded"))
                    let run = try await RouterStage.until("there is a run") {
                        try await stage.reader.runs(LedgerRunFilter(event: "commanded"), limit: 1).items.first
                    }
                    let body = #"{"action": "set-priority", "target": "\#(run.id).0", "priority": "urgent"}"#
                    try await stage.client.publish(
                        AMQPPublishing(
                            exchange: PipelineExchange.router, routingKey: PipelineKey.command, mandatory: true,
                            properties: .pipeline(type: CommandMessage.type, messageID: "by-hand-1"), body: Array(body.utf8)))
                    _ = try await RouterStage.until("the job is urgent") {
                        let id = try #require(RunID(rawValue: run.id))
                        return try await stage.reader.run(id)?.jobs.first?.priority == .urgent ? true : nil
                    }
                }
            }
        }

        @Test("The ledger tells of a connection that was lost and is back")
        func reconnect() async throws {
            try await RouterStage.with { stage in
                try await stage.withRouter(configuration()) {
                    let node = try #require(RouterBrokerTrait.node)
                    _ = try await RouterStage.until("the ledger knows that the broker is there") {
                        try? await stage.reader.pipelineState().broker?.condition == .open ? true : nil
                    }
                    try await node.rabbitmqctl("close_all_connections", "--vhost", node.virtualHost, "a test")
                    // Both can have happened before anybody looks, so the facts have to tell.
                    let kinds = try await RouterStage.until("it is back") {
                        let kinds = try await stage.reader.facts(after: 0, limit: 1000).map(\.kind).filter { $0.hasPrefix("broker.") }
                        let isBack = kinds.contains("broker.disconnected") && kinds.last == "broker.open"
                        return isBack ? kinds : nil
                    }
                    #expect(kinds.first == "broker.open")
                    let state = try await stage.reader.pipelineState()
                    #expect(state.broker?.condition == .open)
                    #expect(state.brokerBlockedReason == nil)
                }
            }
        }
    }

    @Suite struct Processes {
        /// Beside the test runner.
        static let router: String = {
            let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            return products.appending(path: "dcm-router").path
        }()

        func start(_ stage: RouterStage, _ name: String, _ environment: [String: String] = [:]) throws -> ManagedProcess {
            let own = [
                "AMQP_URL": stage.amqpURL, "STATE": stage.state.path, "REGISTRY": stage.registry.path,
                "DATA": stage.folder.appending(path: "data").path, "LOGS": stage.folder.appending(path: "logs").path,
                "PYTHONHOST_PATH": RouterStage.pythonPackage.path, "PYTHON": RouterStage.python,
                "READY_FILE": readyFile(stage, name).path,
            ]
            return try ManagedProcess(
                Command(
                    name: name, executable: Self.router, arguments: [],
                    environment: Command.plainEnvironment.merging(own) { $1 }.merging(environment) { $1 },
                    logFile: stage.folder.appending(path: "\(name).log")))
        }

        func readyFile(_ stage: RouterStage, _ name: String) -> URL { stage.folder.appending(path: "\(name).ready") }

        func wait(_ stage: RouterStage, _ name: String, _ state: ReadinessFile.State) async throws {
            _ = try await RouterStage.until("\(name) is \(state.rawValue)") {
                let text = try? String(contentsOf: readyFile(stage, name), encoding: .utf8)
                return text?.contains(#""state":"\#(state.rawValue)""#) == true ? true : nil
            }
        }

        @Test("A second router stands by, and takes over when the first is killed")
        func standby() async throws {
            try await RouterStage.with { stage in
                let first = try start(stage, "first")
                do {
                    try await wait(stage, "first", .ready)
                    let second = try start(stage, "second")
                    do {
                        try await wait(stage, "second", .standby)
                        try await stage.publish(RouterStage.event("before"))
                        _ = try await RouterStage.until("the first one plans") {
                            try await stage.reader.runs(LedgerRunFilter(event: "before"), limit: 1).items.first
                        }
                        await first.kill()
                        try await stage.publish(RouterStage.event("after"))
                        try await wait(stage, "second", .ready)
                        _ = try await RouterStage.until("the second one plans") {
                            try await stage.reader.runs(LedgerRunFilter(event: "after"), limit: 1).items.first
                        }
                        let log = try String(contentsOf: stage.folder.appending(path: "second.log"), encoding: .utf8)
                        #expect(log.components(separatedBy: "stands by").count == 2)
                    } catch {
                        await second.kill()
                        throw error
                    }
                    await second.kill()
                } catch {
                    await first.kill()
                    throw error
                }
            }
        }

        @Test("A stand-by that is told to stop stops at once")
        func standbyStops() async throws {
            try await RouterStage.with { stage in
                let ledger = try Ledger(folder: stage.state)
                let router = try start(stage, "waiting")
                do {
                    try await wait(stage, "waiting", .standby)
                    let exit = await router.terminate(grace: .seconds(10))
                    #expect(exit == .status(0))
                } catch {
                    await router.kill()
                    throw error
                }
                withExtendedLifetime(ledger) {}
            }
        }

        @Test("A router that is killed after COMMIT loses nothing and does nothing twice")
        func killedAfterCommit() async throws {
            try await RouterStage.with { stage in
                let faulty = try start(stage, "faulty", ["DCM_FAULT": "router.event.committed:1:exit"])
                do {
                    try await wait(stage, "faulty", .ready)
                    try await stage.publish(RouterStage.event("once"))
                    let exit = try await RouterStage.until("it has ended") { faulty.exit }
                    #expect(exit == .status(137))
                } catch {
                    await faulty.kill()
                    throw error
                }
                let next = try start(stage, "next")
                do {
                    let queue = PipelineQueue.jobs(channel: "default")
                    _ = try await RouterStage.until("the hint is there") { try await stage.client.inspect(queue).messages > 0 ? true : nil }
                    _ = try await RouterStage.until("the event is acknowledged") {
                        try await stage.client.inspect(PipelineQueue.ingest).messages == 0 ? true : nil
                    }
                    let runs = try await stage.reader.runs(LedgerRunFilter(event: "once"), limit: 10).items
                    #expect(runs.count == 1)
                } catch {
                    await next.kill()
                    throw error
                }
                await next.kill()
            }
        }
    }
}
