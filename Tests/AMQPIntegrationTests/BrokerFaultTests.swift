import AMQP
import Foundation
import Glibc
import Stack
import Testing

extension AMQPBrokerTests {
    /// What the broker does to us or to our queues.
    @Suite(.enabled(if: Broker.isOurs, "needs a broker of its own, to break it"))
    struct BrokerFault {
        // MARK: The whole broker

        @Test func `a broker frozen for 90 seconds: every call is answered in its time, and all goes on when it thaws`() async throws {
            let node = try #require(Broker.current?.node)
            let pid = try #require(node.pid)
            let patientQueue = unique("patient")
            // One client gives up after two heartbeats and comes back again and again; the other one waits: 90 s are less than two of its own.
            try await withClient(
                AMQPTopology(queues: [classicQueue(patientQueue)]),
                configure: {
                    FaultWorkload.configure(&$0)
                    $0.heartbeat = .seconds(60)
                }
            ) { patient in
                try await FaultWorkload.run("frozen for 90 s") { workload in
                    let memory = Resources.residentMemory
                    #expect(kill(pid, SIGSTOP) == 0)
                    defer { kill(pid, SIGCONT) }
                    let end = ContinuousClock.now + .seconds(90)
                    while ContinuousClock.now < end {
                        let start = ContinuousClock.now
                        let error = await #expect(throws: AMQPError.self) { try await patient.publish(message(to: patientQueue, "x")) }
                        #expect(error?.code == .timeout)
                        #expect(ContinuousClock.now - start < .seconds(2) + FaultWorkload.slack)
                        #expect(workload.client.state != .open || ContinuousClock.now > end - .seconds(85))
                    }
                    let growth = Resources.residentMemory - memory
                    print("  frozen for 90 s: resident memory grew by \(growth.mebibytes), state of the patient one \(patient.state)")
                    #expect(growth < 32 << 20)
                }
                try await eventually("The patient client publishes") {
                    (try? await patient.publish(message(to: patientQueue, "last"))) != nil
                }
                // Those of the frozen time may have arrived, all of them in front of the last one.
                try await patient.consume(patientQueue, prefetch: 10) { deliveries in
                    for await delivery in deliveries {
                        delivery.ack()
                        if delivery.text == "last" { break }
                    }
                }
            }
        }

        @Test func `a broker that is killed and restarted under the whole workload`() async throws {
            let node = try #require(Broker.current?.node)
            try await FaultWorkload.run("killed and restarted") { _ in
                await node.kill()
                try await node.restart()
            }
        }

        @Test func `connections closed by an operator under the whole workload`() async throws {
            let node = try #require(Broker.current?.node)
            // It counts the connections.
            let proxy = try FaultProxy(to: node.port)
            try await FaultWorkload.run(through: proxy, "close_all_connections") { workload in
                for round in 0..<2 {
                    let before = proxy.accepted
                    try await node.rabbitmqctl("close_all_connections", "--vhost", node.virtualHost, "test")
                    try await eventually("Two new connections") { proxy.accepted >= before + 2 }
                    try await workload.works("closed \(round)")
                }
            }
        }

        // MARK: Alarms

        @Test func `a memory alarm under the whole workload: calls end in their time, what waits does not fill the memory`() async throws {
            let node = try #require(Broker.current?.node)
            try await FaultWorkload.run("memory alarm") { workload in
                try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
                let result: Result<Void, any Error>
                do {
                    try await pressOn(workload)
                    result = .success(())
                } catch {
                    result = .failure(error)
                }
                try await node.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
                try result.get()
            }
        }

        /// Publishers that do not stop while the broker is blocked.
        private func pressOn(_ workload: FaultWorkload) async throws {
            let client = workload.client
            try await client.wait(for: "blocked") { if case .blocked = $0 { true } else { false } }
            let memory = Resources.residentMemory
            let body = [UInt8](repeating: 1, count: 64 << 10)
            let sink = AMQPPublishing(exchange: "", routingKey: unique("sink"), mandatory: false, body: body)
            // Some 6 GB if each of them stayed.
            let transient = Task {
                for _ in 0..<100_000 where !Task.isCancelled { client.publishTransient(sink) }
            }
            let outcomes = await withTaskGroup(of: [AMQPError.Code].self) { group in
                for _ in 0..<16 {
                    group.addTask {
                        var codes: [AMQPError.Code] = []
                        // Each publisher waits for its answer: sixteen messages at a time, however long the alarm lasts.
                        for _ in 0..<3 {
                            let start = ContinuousClock.now
                            do throws(AMQPError) {
                                try await client.publish(sink)
                                Issue.record("Published to a blocked broker")
                            } catch {
                                codes.append(error.code)
                            }
                            #expect(ContinuousClock.now - start < .seconds(2) + FaultWorkload.slack)
                        }
                        return codes
                    }
                }
                return await group.reduce(into: [:] as [String: Int]) { all, codes in
                    for code in codes { all["\(code)", default: 0] += 1 }
                }
            }
            await transient.value
            let growth = Resources.residentMemory - memory
            print("  memory alarm: resident memory grew by \(growth.mebibytes), outcomes \(outcomes)")
            #expect(growth < 64 << 20)
        }

        @Test func `a disk alarm blocks, says why, and passes`() async throws {
            let node = try #require(Broker.current?.node)
            let queue = unique("disk")
            try await withClient(AMQPTopology(queues: [classicQueue(queue)])) { client in
                try await node.rabbitmqctl("set_disk_free_limit", "900000GB")
                let waiting = Task { try await client.publish(message(to: queue, "through")) }
                do {
                    try await client.wait(for: "blocked by the disk") { state in
                        if case .blocked(let reason) = state { reason.contains("disk") } else { false }
                    }
                } catch {
                    try await node.rabbitmqctl("set_disk_free_limit", "200MB")
                    throw error
                }
                try await node.rabbitmqctl("set_disk_free_limit", "200MB")
                try await waiting.value
                try await client.wait(for: "open") { $0 == .open }
            }
        }

        // MARK: One queue, one channel

        @Test func `a queue that cannot be declared again is told, and its consumer goes on once it can be`() async throws {
            let queue = unique("usurped")
            let other = unique("other")
            let log = LogBook()
            try await withClient(
                AMQPTopology(queues: [classicQueue(queue), classicQueue(other)]),
                log: log,
                configure: { $0.backoff = .init(initial: .milliseconds(50), maximum: .milliseconds(500)) }
            ) { client in
                try await client.consume(other, prefetch: 1) { others in
                    try await client.consume(queue, prefetch: 1) { deliveries in
                        let (iterator, otherIterator) = (deliveries.makeAsyncIterator(), others.makeAsyncIterator())
                        try await client.publish(message(to: queue, "before"))
                        try #require(await iterator.next()).ack()
                        // Somebody deletes the queue and is quicker than we are to declare another one of its name.
                        try await replaceQueue(queue)
                        try await eventually("The log tells of the mismatch: \(log.lines)") {
                            log.holds("warning", "topologyMismatch 406", queue)
                        }
                        // It hurts nobody else.
                        try await client.publish(message(to: other, "meanwhile"))
                        let meanwhile = try #require(await otherIterator.next())
                        #expect(meanwhile.text == "meanwhile")
                        meanwhile.ack()
                        try await deleteQueue(queue)
                        try await eventually("The queue is back") { (try? await client.publish(message(to: queue, "after"))) != nil }
                        let after = try #require(await iterator.next())
                        #expect(after.text == "after")
                        after.ack()
                    }
                }
            }
        }

        @Test func `a delivery held too long closes its own channel alone, and is delivered again`() async throws {
            let node = try #require(Broker.current?.node)
            let (slow, quick) = (unique("slow"), unique("quick"))
            let log = LogBook()
            // For channels opened from now on; the broker looks at them once a second instead of once a minute.
            let set = "application:set_env(rabbit, consumer_timeout,"
            try await node.rabbitmqctl("eval", "\(set) 1000), application:set_env(rabbit, channel_tick_interval, 1000).")
            let result: Result<Void, any Error>
            do {
                let proxy = try FaultProxy(to: node.port)
                let uri = "amqp://\(node.user):\(node.password)@127.0.0.1:\(proxy.port)/\(node.virtualHost)"
                try await withClient(AMQPTopology(queues: [classicQueue(slow), classicQueue(quick)]), uri: uri, log: log) { client in
                    try await client.consume(quick, prefetch: 1) { quicks in
                        try await client.consume(slow, prefetch: 1) { slows in
                            let (iterator, quickIterator) = (slows.makeAsyncIterator(), quicks.makeAsyncIterator())
                            try await client.publish(message(to: slow, "held"))
                            let held = try #require(await iterator.next())
                            let again = try #require(try await within(.seconds(20), "The second delivery") { await iterator.next() })
                            #expect(again.text == "held")
                            #expect(again.redelivered)
                            // Its channel is gone: this must not touch the new one.
                            held.ack()
                            again.ack()
                            #expect(
                                log.holds("warning", "channelClosed 406", "delivery acknowledgement on channel", "consumer of \(slow)"),
                                "\(log.lines)"
                            )
                            #expect(!log.holds("consumer of \(quick)"))
                            try await client.publish(message(to: quick, "unharmed"))
                            let unharmed = try #require(await quickIterator.next())
                            #expect(unharmed.text == "unharmed")
                            #expect(!unharmed.redelivered)
                            unharmed.ack()
                            #expect(client.state == .open)
                            #expect(proxy.accepted == 2)
                        }
                    }
                    let left = try await client.inspect(slow).messages
                    #expect(left == 0)
                }
                result = .success(())
            } catch {
                result = .failure(error)
            }
            try await node.rabbitmqctl("eval", "\(set) 87300000), application:set_env(rabbit, channel_tick_interval, 60000).")
            try result.get()
        }

        @Test func `an exclusive queue of another connection is an error that names it, until it is free`() async throws {
            let name = unique("exclusive")
            let queue = AMQPQueue(name: name, durable: false, exclusive: true, arguments: ["x-queue-type": "classic"])
            let topology = AMQPTopology(queues: [queue])
            let backoff = AMQPConfiguration.Backoff(initial: .milliseconds(50), maximum: .milliseconds(300))
            let (freed, free) = AsyncStream.makeStream(of: Void.self)
            let owner = Task {
                try await withClient(topology) { _ in
                    for await _ in freed {}
                }
            }
            try await withClient { clean in
                try await eventually("The owner has it") {
                    do throws(AMQPError) {
                        _ = try await clean.inspect(name)
                        return false
                    } catch {
                        // 404 until it is there; then it is somebody else's.
                        guard error.code != .notFound else { return false }
                        #expect(error.code == .accessRefused)
                        #expect(error.replyCode == 405)
                        #expect(error.message.contains(name))
                        return true
                    }
                }
            }
            try await withClient(topology, ready: false, configure: { $0.backoff = backoff }) { client in
                try await client.wait(for: "locked out") { if case .reconnecting = $0 { true } else { false } }
                if case .reconnecting(let error) = client.state {
                    #expect(error.code == .accessRefused)
                    #expect(error.replyCode == 405)
                    #expect(error.message.contains(name))
                }
                free.finish()
                _ = await owner.result
                try await client.wait(for: "open") { $0 == .open }
                try await client.publish(message(to: name, "mine"))
                let texts = try await client.take(1, from: name).map(\.text)
                #expect(texts == ["mine"])
            }
        }

        // MARK: Leaks

        @Test func `a hundred reconnects leave no descriptor, no thread and no memory behind`() async throws {
            let node = try #require(Broker.current?.node)
            let proxy = try FaultProxy(to: node.port)
            let queue = unique("leak")
            let name = "leak\(Int.random(in: 100...999))"
            let uri = "amqp://\(node.user):\(node.password)@127.0.0.1:\(proxy.port)/\(node.virtualHost)"
            try await withClient(
                AMQPTopology(queues: [classicQueue(queue)]),
                uri: uri,
                configure: {
                    $0.connectionName = name
                    $0.backoff = .init(initial: .milliseconds(10), maximum: .milliseconds(50))
                }
            ) { client in
                try await client.consume(queue, prefetch: 100) { deliveries in
                    let iterator = deliveries.makeAsyncIterator()
                    func rounds(_ count: Int) async throws -> Resources.Use {
                        for _ in 0..<count {
                            let before = proxy.accepted
                            proxy.reset()
                            try await eventually("Both are back") { proxy.accepted >= before + 2 }
                            try await eventually("A message passes") {
                                (try? await client.publish(message(to: queue, String(repeating: "x", count: 10_000)))) != nil
                            }
                            try #require(await iterator.next()).ack()
                        }
                        try await eventually("Both are open") { client.state == .open && proxy.open == 2 }
                        return .now
                    }
                    let warm = try await rounds(20)
                    let start = proxy.accepted
                    let after = try await rounds(100)
                    print("  \(proxy.accepted - start) connections in 100 reconnects: before \(warm), after \(after)")
                    #expect(proxy.accepted - start >= 200)
                    #expect(after.descriptors <= warm.descriptors)
                    // Threads of the runtime's pools come and go; ours are known by their name.
                    #expect(Resources.threads(named: name) == 2)
                    #expect(after.threads <= warm.threads + 2)
                    #expect(after.memory - warm.memory < 4 << 20)
                }
            }
            try await eventually("The threads end") { Resources.threads(named: name) == 0 }
            #expect(Resources.sockets(to: proxy.port) == 0)
        }
    }
}
