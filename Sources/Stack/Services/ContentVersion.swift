import COpenSSL
import Foundation

/// What a service's files are called as a whole: the same files have the same version, on every machine.
enum ContentVersion {
    /// The first 12 digits of a SHA-256 over names, contents and modes, in hexadecimal.
    static func of(registry: URL, module: URL?) throws -> String {
        guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
            throw StackError(.cannotStart, "libcrypto offers no SHA-256.")
        }
        defer { EVP_MD_CTX_free(context) }
        for (name, folder) in [("registry", registry), ("module", module)] {
            guard let folder else { continue }
            for item in try FolderListing(of: folder).items {
                try add(item, named: "\(name)/\(item.path)", in: folder, to: context)
            }
        }
        var value = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        EVP_DigestFinal_ex(context, &value, nil)
        return value.prefix(6).map { String(format: "%02x", $0) }.joined()
    }

    private static func add(_ item: FolderListing.Item, named name: String, in folder: URL, to context: OpaquePointer) throws {
        var data = Data()
        var kind = "folder"
        switch item.kind {
        // Empty folders come and go with version control.
        case .folder: return
        case .link(let target): (kind, data) = ("link", Data(target.utf8))
        case .file(_, let isProgram):
            kind = isProgram ? "program" : "file"
            let file = folder.appendingPathComponent(item.path)
            do {
                data = try Data(contentsOf: file, options: .mappedIfSafe)
            } catch {
                throw StackError(.fileSystem, "\(file.path) cannot be read: \((error as NSError).localizedDescription)")
            }
        }
        for part in [Data("\(kind) \(name.utf8.count) \(name) \(data.count)\n".utf8), data] {
            part.withUnsafeBytes { _ = EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
        }
    }
}
