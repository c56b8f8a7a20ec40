import CCurl
import Foundation

/// One request under way. Lives on libcurl's thread only; the loop keeps it alive while its easy handle is in the multi handle.
final class CurlTransfer {
    let id: UInt64
    let request: CurlRequest
    let continuation: CheckedContinuation<CurlResponse, any Error>
    let easy: UnsafeMutableRawPointer
    private let errorText: UnsafeMutableBufferPointer<CChar>
    /// The body of `.memory`; of `.file`, what was not written yet.
    private var buffer = CurlBuffer()
    private var received: Int64 = 0
    private var unreported = 0
    private var status = 0
    /// Set when we, not libcurl, end the transfer.
    private var ending: CurlFailure.Kind?

    init(id: UInt64, request: CurlRequest, continuation: CheckedContinuation<CurlResponse, any Error>, easy: UnsafeMutableRawPointer) {
        self.id = id
        self.request = request
        self.continuation = continuation
        self.easy = easy
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0)
        configure()
    }

    deinit {
        errorText.deallocate()
    }

    private func configure() {
        curl_easy_reset(easy)
        dcm_curl_set_long(easy, CURLOPT_NOSIGNAL, 1)
        dcm_curl_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        dcm_curl_set_string(easy, CURLOPT_URL, request.url)
        dcm_curl_set_string(easy, CURLOPT_USERAGENT, "dcm-processor")
        dcm_curl_set_long(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        dcm_curl_set_long(easy, CURLOPT_BUFFERSIZE, 512 * 1024)
        dcm_curl_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, request.connectTimeout.milliseconds)
        dcm_curl_set_long(easy, CURLOPT_LOW_SPEED_LIMIT, 1)
        dcm_curl_set_long(easy, CURLOPT_LOW_SPEED_TIME, max(1, request.stallTimeout.milliseconds / 1000))
        dcm_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText.baseAddress)
        if let user = request.user {
            dcm_curl_set_long(easy, CURLOPT_HTTPAUTH, 1)  // CURLAUTH_BASIC
            dcm_curl_set_string(easy, CURLOPT_USERNAME, user)
            dcm_curl_set_string(easy, CURLOPT_PASSWORD, request.password ?? "")
        }
        // Unretained: the loop holds the transfer until after curl_multi_remove_handle.
        dcm_curl_set_write(
            easy,
            { bytes, size, count, context in
                guard let bytes, let context else { return 0 }
                let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
                return transfer.receive(UnsafeRawBufferPointer(start: bytes, count: size * count))
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }

    /// - Returns: how many bytes were taken; any other number than all of them ends the transfer.
    private func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
        if status == 0 {
            status = responseCode()
        }
        guard (200..<300).contains(status) else { return bytes.count }
        switch request.sink {
        case .memory(let limit, let expected):
            guard buffer.count + bytes.count <= limit else {
                ending = .tooLarge(limit: limit)
                return 0
            }
            if received == 0 { buffer.reserve(min(expected, limit)) }
            buffer.append(bytes)
        case .file(let descriptor):
            // libcurl hands out 16 KiB at most.
            if received == 0 { buffer.reserve(Self.writeSize) }
            if buffer.count + bytes.count > Self.writeSize {
                guard flush(to: descriptor) else { return 0 }
            }
            buffer.append(bytes)
        }
        received += Int64(bytes.count)
        unreported += bytes.count
        if unreported >= Self.reportSize { report() }
        return bytes.count
    }

    private static let writeSize = 1 << 20
    private static let reportSize = 256 << 10

    private func report() {
        if unreported > 0 { request.onBytes?(unreported) }
        unreported = 0
    }

    private func flush(to descriptor: Int32) -> Bool {
        var isWritten = true
        buffer.flush { isWritten = write($0, to: descriptor) }
        return isWritten
    }

    private func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let written = Foundation.write(descriptor, rest.baseAddress, rest.count)
            if written < 0 {
                if errno == EINTR { continue }
                ending = .sink(errno: errno)
                return false
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        }
        return true
    }

    private func responseCode() -> Int {
        var code = 0
        dcm_curl_get_long(easy, CURLINFO_RESPONSE_CODE, &code)
        return code
    }

    /// Tells the caller. The easy handle must have left the multi handle before.
    func finish(_ code: CURLcode) {
        report()
        if code == CURLE_OK, end() {
            continuation.resume(returning: CurlResponse(status: responseCode(), body: buffer.take(), received: received))
            return
        }
        let detail = errorText.baseAddress.map { String(cString: $0) } ?? ""
        let text = detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
        continuation.resume(throwing: CurlFailure(kind: ending ?? CurlFailure.kind(of: code), text: text))
    }

    /// Writes what is left.
    private func end() -> Bool {
        guard case .file(let descriptor) = request.sink else { return true }
        return flush(to: descriptor)
    }

    func cancel() {
        continuation.resume(throwing: CancellationError())
    }
}

extension Duration {
    var milliseconds: Int {
        let (seconds, attoseconds) = components
        return Int(seconds) * 1000 + Int(attoseconds / 1_000_000_000_000_000)
    }
}
