import CRabbitMQ
import Glibc

/// A thread of its own for something that blocks.
enum ConnectionThread {
    /// librabbitmq 0.11 decodes nested tables by recursion: one frame of 128 KiB can nest some 26,000 deep. The pages are only
    /// reserved, not used.
    private static let stackSize = 32 << 20

    private final class Body {
        let run: @Sendable () -> Void

        init(_ run: @escaping @Sendable () -> Void) {
            self.run = run
        }
    }

    /// Starts a detached thread.
    ///
    /// - Parameter name: at most 15 characters show.
    /// - Returns: false when the system has no thread to give; then `run` is not called.
    static func start(name: String, _ run: @escaping @Sendable () -> Void) -> Bool {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, stackSize)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        defer { pthread_attr_destroy(&attributes) }
        let body = Unmanaged.passRetained(
            Body {
                dcm_name_thread(name)
                run()
            }
        )
        var thread = pthread_t()
        let status = pthread_create(
            &thread,
            &attributes,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            },
            body.toOpaque(),
        )
        if status != 0 { body.release() }
        return status == 0
    }
}
