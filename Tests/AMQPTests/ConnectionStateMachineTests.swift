import Testing

@testable import AMQP

@Suite struct ConnectionStateMachineTests {
    private let start = ContinuousClock.now

    private func machine(endpoints: Int = 1) -> ConnectionStateMachine {
        ConnectionStateMachine(
            endpoints: endpoints,
            backoff: AMQPConfiguration.Backoff(initial: .seconds(1), maximum: .seconds(5)),
            connectTimeout: .seconds(3),
            drainTimeout: .seconds(10),
            now: start,
        )
    }

    private func opened() -> ConnectionStateMachine {
        var machine = machine()
        machine.connected()
        machine.ready()
        return machine
    }

    @Test func `connects at once, declares, is open`() {
        var machine = machine()
        #expect(machine.next(now: start, stop: nil, isDrained: true, isAnswered: true) == .connect(endpoint: 0))
        let limit = start + .seconds(3)
        #expect(machine.phase == .connecting(until: limit))
        #expect(machine.next(now: start, stop: nil, isDrained: true, isAnswered: true) == .serve(until: limit))
        machine.connected()
        #expect(machine.phase == .declaring)
        #expect(machine.next(now: start, stop: nil, isDrained: true, isAnswered: false) == .serve(until: nil))
        machine.ready()
        #expect(machine.phase == .open)
        #expect(machine.next(now: start, stop: nil, isDrained: false, isAnswered: false) == .serve(until: nil))
    }

    @Test func `tries each endpoint in turn, and waits longer after each round, up to the maximum`() {
        var machine = machine(endpoints: 3)
        var now = start
        var delays: [Duration] = []
        var endpoints: [Int] = []
        for _ in 0..<12 {
            guard case .connect(let endpoint) = machine.next(now: now, stop: nil, isDrained: true, isAnswered: true) else {
                Issue.record("no attempt at \(now)")
                return
            }
            endpoints.append(endpoint)
            machine.failed(now: now, jitter: 1)
            guard case .serve(let until?) = machine.next(now: now, stop: nil, isDrained: true, isAnswered: true) else {
                Issue.record("no wait after a failure")
                return
            }
            delays.append(until - now)
            now = until
        }
        #expect(delays == [1, 1, 1, 1, 1, 2, 1, 1, 4, 1, 1, 5].map(Duration.seconds))
        #expect(endpoints == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
    }

    @Test func `an attempt that takes too long is given up, and one that a stop meets ends at once`() {
        var machine = machine(endpoints: 2)
        _ = machine.next(now: start, stop: nil, isDrained: true, isAnswered: true)
        let late = start + .seconds(3)
        #expect(machine.next(now: late, stop: nil, isDrained: true, isAnswered: true) == .giveUp)
        machine.failed(now: late, jitter: 1)
        #expect(machine.phase == .disconnected(retryAt: late + .seconds(1)))
        #expect(machine.next(now: late + .seconds(1), stop: nil, isDrained: true, isAnswered: true) == .connect(endpoint: 1))
        #expect(machine.next(now: late + .seconds(1), stop: .drain, isDrained: false, isAnswered: true) == .finish)
        #expect(machine.phase == .closed)
    }

    @Test func `jitter spreads over the upper half`() {
        let backoff = AMQPConfiguration.Backoff(initial: .seconds(1), maximum: .seconds(5))
        #expect(backoff.delay(attempt: 0, jitter: 0) == .milliseconds(500))
        #expect(backoff.delay(attempt: 0, jitter: 1) == .seconds(1))
        #expect(backoff.delay(attempt: 1_000_000, jitter: 1) == .seconds(5))
    }

    @Test func `an open connection starts the backoff anew, a login alone does not`() {
        var machine = machine()
        machine.failed(now: start, jitter: 0)
        machine.failed(now: start, jitter: 0)
        machine.connected()
        #expect(machine.attempt == 2)
        machine.ready()
        #expect(machine.attempt == 0)
        machine.failed(now: start, jitter: 1)
        #expect(machine.phase == .disconnected(retryAt: start + .seconds(1)))
    }

    @Test func `a graceful stop drains, says goodbye, waits for the answer`() {
        var machine = opened()
        #expect(machine.next(now: start, stop: .drain, isDrained: false, isAnswered: false) == .beginDrain)
        let limit = start + .seconds(10)
        #expect(machine.next(now: start, stop: .drain, isDrained: false, isAnswered: false) == .serve(until: limit))
        #expect(machine.next(now: start, stop: .drain, isDrained: true, isAnswered: false) == .sayGoodbye(until: start + .seconds(2)))
        #expect(machine.isClosing)
        #expect(machine.next(now: start, stop: .drain, isDrained: true, isAnswered: false) == .serve(until: start + .seconds(2)))
        #expect(machine.next(now: start, stop: .drain, isDrained: true, isAnswered: true) == .finish)
        #expect(machine.phase == .closed)
    }

    @Test func `neither drain nor goodbye lasts longer than its limit`() {
        var machine = opened()
        _ = machine.next(now: start, stop: .drain, isDrained: false, isAnswered: false)
        let late = start + .seconds(10)
        let limit = late + .seconds(2)
        #expect(machine.next(now: late, stop: .drain, isDrained: false, isAnswered: false) == .sayGoodbye(until: limit))
        #expect(machine.next(now: limit, stop: .drain, isDrained: false, isAnswered: false) == .finish)
    }

    @Test func `a cancellation does not drain`() {
        var machine = opened()
        #expect(machine.next(now: start, stop: .abandon, isDrained: false, isAnswered: false) == .sayGoodbye(until: start + .seconds(2)))
        var draining = opened()
        _ = draining.next(now: start, stop: .drain, isDrained: false, isAnswered: false)
        #expect(draining.next(now: start, stop: .abandon, isDrained: false, isAnswered: false) == .sayGoodbye(until: start + .seconds(2)))
    }

    @Test func `a stop without a connection ends at once`() {
        var waiting = machine()
        waiting.failed(now: start, jitter: 1)
        #expect(waiting.next(now: start, stop: .drain, isDrained: false, isAnswered: true) == .finish)
        var declaring = machine()
        declaring.connected()
        #expect(declaring.next(now: start, stop: .drain, isDrained: true, isAnswered: false) == .sayGoodbye(until: start + .seconds(2)))
    }

    @Test func `a connection lost while stopping is not made again`() {
        var machine = opened()
        _ = machine.next(now: start, stop: .drain, isDrained: false, isAnswered: false)
        machine.failed(now: start, jitter: 0)
        #expect(machine.next(now: start, stop: .drain, isDrained: false, isAnswered: true) == .finish)
    }
}
