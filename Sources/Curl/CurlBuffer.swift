import Foundation

/// Bytes that arrive, in one piece of memory that becomes a `Data` without a copy.
struct CurlBuffer: ~Copyable {
    private var memory: UnsafeMutableRawPointer?
    private var capacity = 0
    private(set) var count = 0

    deinit {
        free(memory)
    }

    mutating func reserve(_ wanted: Int) {
        guard wanted > capacity else { return }
        guard let larger = realloc(memory, wanted) else { fatalError("realloc failed: out of memory") }
        memory = larger
        capacity = wanted
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        if count + bytes.count > capacity { reserve(max(2 * capacity, count + bytes.count, 16 * 1024)) }
        memcpy(memory! + count, source, bytes.count)
        count += bytes.count
    }

    /// Leaves nothing behind.
    mutating func take() -> Data {
        defer {
            memory = nil
            (capacity, count) = (0, 0)
        }
        guard let memory, count > 0 else {
            free(memory)
            return Data()
        }
        return Data(bytesNoCopy: memory, count: count, deallocator: .free)
    }

    /// The bytes so far, which are forgotten afterwards; the memory stays.
    mutating func flush<Failure>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Void) throws(Failure) {
        defer { count = 0 }
        try body(UnsafeRawBufferPointer(start: memory, count: count))
    }
}
