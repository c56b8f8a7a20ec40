import Testing

@testable import AMQP

@Suite(.timeLimit(.minutes(5)))
struct StatusTests {
    @Test("Watchers that are cancelled while the state changes hold nobody up, and the last state is heard")
    func cancelled() async {
        let status = AMQPStatus()
        await withTaskGroup { group in
            for part in [AMQPStatus.Part.publish, .consume] {
                group.addTask {
                    for number in 0..<5000 { status.update(part, number.isMultiple(of: 2) ? .open : .draining) }
                }
            }
            for _ in 0..<500 {
                let watcher = Task { for await _ in status.stream() {} }
                await Task.yield()
                watcher.cancel()
                await watcher.value
            }
        }
        let stream = status.stream()
        for part in [AMQPStatus.Part.publish, .consume] { status.update(part, .closed) }
        var last: AMQPConnectionState?
        for await state in stream { last = state }
        #expect(last == .closed)
    }
}
