import CCurl
import Foundation

/// One request under way. Lives on libcurl's thread only; the loop keeps it alive while its easy handle is in the multi handle.
final class CurlTransfer {
    let id: UInt64
    let request: CurlRequest
    let continuation: CheckedContinuation<CurlResponse, any Error>
    let easy: UnsafeMutableRawPointer
    private let errorText: UnsafeMutableBufferPointer<CChar>
    /// libcurl's list; ours to free once the transfer has left its multi handle.
    private var headers: UnsafeMutablePointer<curl_slist>?
    /// The body of `.memory`; of `.file`, what was not written yet.
    private var buffer = CurlBuffer()
    private var received: Int64 = 0
    private var unreported = 0
    private var status = 0
    /// Set when we, not libcurl, end the transfer.
    private var ending: CurlFailure.Kind?
    private var hasRefusedAddress = false

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
        curl_slist_free_all(headers)
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
        if let timeout = request.timeout { dcm_curl_set_long(easy, CURLOPT_TIMEOUT_MS, max(1, timeout.milliseconds)) }
        configureBody()
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
        guard request.refusal != nil else { return }
        // A proxy would connect to addresses that nobody here has looked at.
        dcm_curl_set_string(easy, CURLOPT_PROXY, "")
        dcm_curl_set_opensocket(
            easy,
            { context, _, address in
                guard let address, let context else { return -1 }
                return Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue().open(&address.pointee)
            },
            Unmanaged.passUnretained(self).toOpaque()
        )
    }

    private func configureBody() {
        var fields = request.headers
        if let body = request.body {
            // The size first: libcurl copies so many bytes.
            dcm_curl_set_large(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.bytes.count))
            _ = body.bytes.withUnsafeBytes { dcm_curl_set_bytes(easy, CURLOPT_COPYPOSTFIELDS, $0.baseAddress) }
            fields["Content-Type"] = body.type
            // Nobody waits for leave to send a small body.
            fields["Expect"] = ""
        }
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) { headers = curl_slist_append(headers, "\(name): \(value)") }
        if let headers { dcm_curl_set_pointer(easy, CURLOPT_HTTPHEADER, headers) }
    }

    /// - Returns: a socket for libcurl to connect; -1 for an address that the request refuses.
    private func open(_ address: inout curl_sockaddr) -> curl_socket_t {
        let bytes = withUnsafeBytes(of: &address.addr) { Array(UnsafeRawBufferPointer(start: $0.baseAddress, count: Int(address.addrlen))) }
        if request.refusal?.refuses(socketAddress: bytes) == true {
            hasRefusedAddress = true
            return -1
        }
        return socket(address.family, address.socktype | Int32(SOCK_CLOEXEC.rawValue), address.protocol)
    }

    /// - Returns: how many bytes were taken; any other number than all of them ends the transfer.
    private func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
        if status == 0 {
            status = responseCode()
        }
        if case .nothing(let limit) = request.sink {
            received += Int64(bytes.count)
            if received <= limit { return bytes.count }
            ending = .tooLarge(limit: limit)
            return 0
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
        case .nothing: break
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
        if isAnswered(code), end() {
            continuation.resume(
                returning: CurlResponse(status: responseCode(), body: buffer.take(), received: received, retryAfter: retryAfter()))
            return
        }
        if hasRefusedAddress, code == CURLE_COULDNT_CONNECT { ending = .refusedAddress }
        let detail = errorText.baseAddress.map { String(cString: $0) } ?? ""
        let text = detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
        continuation.resume(throwing: CurlFailure(kind: ending ?? CurlFailure.kind(of: code), text: text))
    }

    private func isAnswered(_ code: CURLcode) -> Bool {
        if code == CURLE_OK { return true }
        // The status is known, and what else was on its way, or was not, is of no interest.
        if case .nothing = request.sink { return responseCode() >= 200 }
        return false
    }

    private func retryAfter() -> Int {
        var seconds: curl_off_t = 0
        dcm_curl_get_large(easy, CURLINFO_RETRY_AFTER, &seconds)
        return Int(clamping: seconds)
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
