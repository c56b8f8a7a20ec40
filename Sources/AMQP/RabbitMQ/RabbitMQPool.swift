import CRabbitMQ
import Glibc

/// Memory for the C structs of one frame or one table: everything in it ends with `recycle()`.
final class RabbitMQPool {
    private let pool: UnsafeMutablePointer<amqp_pool_t>

    init() {
        pool = .allocate(capacity: 1)
        init_amqp_pool(pool, 16 * 1024)
    }

    deinit {
        empty_amqp_pool(pool)
        pool.deallocate()
    }

    func recycle() {
        recycle_amqp_pool(pool)
    }

    /// The pool itself, for C functions that allocate from it. The pointer must not outlive the closure.
    func withPointer<Result>(_ body: (UnsafeMutablePointer<amqp_pool_t>) -> Result) -> Result {
        body(pool)
    }

    func bytes(_ text: String) -> amqp_bytes_t {
        var text = text
        return text.withUTF8 { copy(UnsafeRawBufferPointer($0)) }
    }

    func bytes(_ data: [UInt8]) -> amqp_bytes_t {
        data.withUnsafeBytes { copy($0) }
    }

    private func copy(_ source: UnsafeRawBufferPointer) -> amqp_bytes_t {
        guard let base = source.baseAddress, source.count > 0 else { return amqp_empty_bytes }
        let copy = allocate(source.count)
        memcpy(copy, base, source.count)
        return amqp_bytes_t(len: source.count, bytes: copy)
    }

    func allocate<Element>(_ type: Element.Type, count: Int) -> UnsafeMutablePointer<Element> {
        allocate(MemoryLayout<Element>.stride * max(count, 1)).bindMemory(to: type, capacity: count)
    }

    private func allocate(_ count: Int) -> UnsafeMutableRawPointer {
        guard let memory = amqp_pool_alloc(pool, count) else { fatalError("Out of memory: \(count) bytes for an AMQP frame.") }
        return memory
    }
}
