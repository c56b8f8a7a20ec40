import Jobs
import Synchronization

/// The memory and the GPUs that this worker's jobs share: what a job asks for is its own until it ends.
///
/// A job that has been claimed waits here with its slot and its lease, first come, first served, even when a later one would fit: a big job
/// is never overtaken for ever by small ones. It is not handed back meanwhile, because the router would offer it again at once, mostly to
/// this worker: a loop that costs messages and a place in the queue, where a wait costs a slot. Whoever wants the slot for other work gives
/// jobs with GPUs a channel of their own.
final class ResourceTokens: Sendable {
    /// What a job got.
    struct Grant: Sendable, Equatable {
        var memory: Int64
        /// Device ids.
        var devices: [String]
    }

    private struct Waiting {
        var id: Int
        var wanted: JobResources
        /// nil until its task has gone to sleep.
        var promise: CheckedContinuation<Grant?, Never>?
    }

    private struct State {
        var memory: Int64
        /// In the worker's order, so that the first ones are used first.
        var devices: [String]
        var lastWaiter = 0
        var waiting: [Waiting] = []
        /// Given to somebody who was not asleep yet.
        var early: [Int: Grant] = [:]

        mutating func take(_ wanted: JobResources) -> Grant? {
            guard (wanted.memory ?? 0) <= memory, wanted.gpus <= devices.count else { return nil }
            memory -= wanted.memory ?? 0
            let grant = Grant(memory: wanted.memory ?? 0, devices: Array(devices.prefix(wanted.gpus)))
            devices.removeFirst(wanted.gpus)
            return grant
        }
    }

    /// All there is.
    let memory: Int64
    /// All there are; nil when nobody said which: then jobs see what the machine shows them.
    let devices: [String]?
    private let state: Mutex<State>

    /// - Parameter memory: bytes.
    init(memory: Int64, devices: [String]?) {
        self.memory = memory
        self.devices = devices
        state = Mutex(State(memory: memory, devices: devices ?? []))
    }

    /// Why a job can never run here; nil when it can.
    func lack(for wanted: JobResources) -> String? {
        let own = devices?.count ?? 0
        if wanted.gpus > own {
            return "it wants \(Self.gpus(wanted.gpus)) and this worker has \(own == 0 ? "none" : "\(own)") (WORKER_GPUS)"
        }
        if let bytes = wanted.memory, bytes > memory {
            let all = ByteCount.text(memory / (1 << 20) * (1 << 20))
            return "it wants \(ByteCount.text(bytes)) of memory and this worker has \(all) (WORKER_MEMORY)"
        }
        return nil
    }

    /// Takes what a job wants, waiting for it if need be.
    /// - Parameter onWait: called once, with what it waits for, when it has to.
    /// - Returns: nil when the task was cancelled.
    func take(_ wanted: JobResources, onWait: (String) -> Void) async -> Grant? {
        if wanted.memory == nil, wanted.gpus == 0 { return Grant(memory: 0, devices: []) }
        let (id, grant) = state.withLock { state in
            state.lastWaiter += 1
            let grant = state.waiting.isEmpty ? state.take(wanted) : nil
            if grant == nil { state.waiting.append(Waiting(id: state.lastWaiter, wanted: wanted)) }
            return (state.lastWaiter, grant)
        }
        if let grant { return grant }
        onWait("waits for \(Self.text(wanted))")
        return await withTaskCancellationHandler {
            await withCheckedContinuation { promise in
                let answer: Grant?? = state.withLock { state in
                    if let grant = state.early.removeValue(forKey: id) { return .some(grant) }
                    guard let index = state.waiting.firstIndex(where: { $0.id == id }) else { return .some(nil) }
                    state.waiting[index].promise = promise
                    return nil
                }
                if let answer { promise.resume(returning: answer) }
            }
        } onCancel: {
            let given = state.withLock { state -> CheckedContinuation<Grant?, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.id == id }) else { return nil }
                return state.waiting.remove(at: index).promise
            }
            given?.resume(returning: nil)
            // It may have been what others stood behind.
            serve()
        }
    }

    func release(_ grant: Grant) {
        state.withLock { state in
            state.memory += grant.memory
            let free = Set(state.devices + grant.devices)
            state.devices = (devices ?? []).filter(free.contains)
        }
        serve()
    }

    /// What a job with `grant` finds in its environment.
    func environment(_ grant: Grant) -> [String: String] {
        devices == nil ? [:] : ["CUDA_VISIBLE_DEVICES": grant.devices.joined(separator: ",")]
    }

    private func serve() {
        let served = state.withLock { state in
            var served: [(CheckedContinuation<Grant?, Never>, Grant)] = []
            while let first = state.waiting.first, let grant = state.take(first.wanted) {
                state.waiting.removeFirst()
                if let promise = first.promise { served.append((promise, grant)) } else { state.early[first.id] = grant }
            }
            return served
        }
        for (promise, grant) in served { promise.resume(returning: grant) }
    }

    private static func text(_ wanted: JobResources) -> String {
        [wanted.gpus > 0 ? gpus(wanted.gpus) : nil, wanted.memory.map { "\(ByteCount.text($0)) of memory" }]
            .compactMap(\.self).joined(separator: " and ")
    }

    private static func gpus(_ count: Int) -> String { count == 1 ? "1 GPU" : "\(count) GPUs" }
}
