import CoreMetrics
import Synchronization

/// Keeps the last value of each gauge and the sum of each counter.
final class RecordedMetrics: MetricsFactory {
    private final class Handler: CounterHandler, RecorderHandler, TimerHandler, Sendable {
        private let state = Mutex<Double>(0)

        var value: Double { state.withLock { $0 } }

        func increment(by amount: Int64) { state.withLock { $0 += Double(amount) } }
        func reset() { state.withLock { $0 = 0 } }
        func record(_ value: Int64) { state.withLock { $0 = Double(value) } }
        func record(_ value: Double) { state.withLock { $0 = value } }
        func recordNanoseconds(_ duration: Int64) {}
    }

    private let handlers = Mutex<[String: Handler]>([:])

    func value(_ label: String) -> Double? { handlers.withLock { $0[label]?.value } }

    private func handler(_ label: String) -> Handler {
        handlers.withLock { handlers in
            let handler = handlers[label] ?? Handler()
            handlers[label] = handler
            return handler
        }
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler { handler(label) }
    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler { handler(label) }
    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler { handler(label) }
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}
