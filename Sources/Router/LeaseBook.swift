import Jobs
import Synchronization

/// The lease table, shared by the writer, the sweep and the connection's watcher.
final class LeaseBook: Sendable {
    private let table: Mutex<LeaseTable>

    init(duration: Duration) { table = Mutex(LeaseTable(duration: duration)) }

    func extend(_ job: JobID, token: Int) { table.withLock { $0.extend(job, token: token, at: .now) } }
    func extendAll() { table.withLock { $0.extendAll(at: .now) } }
    func release(_ job: JobID) { table.withLock { $0.release(job) } }
    func isExpired(_ lease: LeaseTable.Lease) -> Bool { table.withLock { $0.expired(at: .now).contains(lease) } }
    func expired() -> [LeaseTable.Lease] { table.withLock { $0.expired(at: .now) } }
}
