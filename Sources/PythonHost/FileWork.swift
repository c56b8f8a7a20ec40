import Dispatch

/// Work on files waits for disks and file servers: it never runs on the threads of async code, of which there are as few as cores.
package enum FileWork {
    private static let queue = DispatchQueue(label: "dcm.python-host.files", attributes: .concurrent)

    package static func run<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            queue.async { continuation.resume(returning: body()) }
        }
    }
}
