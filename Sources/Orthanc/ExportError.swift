/// Why images could not be written, apart from what Orthanc says (``OrthancError``). No text holds anything from a DICOM header.
package enum ExportError: Error, Sendable, Hashable {
    /// Found before the first byte was written, or by a write. Bytes; `needed` is what was still to come, `reserve` what must stay free
    /// besides.
    case diskFull(needed: Int64, reserve: Int64, available: Int64, folder: String)
    /// The file that arrived is not the one that Orthanc stored, every time that it was fetched.
    case checksum(instance: String, expected: String, actual: String)
    case unwritable(path: String, reason: String)
    /// The path leads, or could lead, to another place than a folder of the run below DATA.
    case unconfined(path: String, reason: String)
}

extension ExportError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .diskFull(let needed, let reserve, let available, let folder):
            "No room for the images: \(megabytes(needed)) needed and \(megabytes(reserve)) to stay free (EXPORT_RESERVE), "
                + "\(megabytes(available)) available in \(folder). Free some space or move DATA, then retry the job."
        case .checksum(let instance, let expected, let actual):
            "Instance \(instance) arrived damaged: its MD5 is \(actual), Orthanc stored \(expected). "
                + "Check Orthanc's storage with /instances/\(instance)/attachments/dicom/verify-md5."
        case .unwritable(let path, let reason):
            "Cannot write \(path): \(reason). Check that DATA exists and belongs to the user that the worker runs as."
        case .unconfined(let path, let reason):
            "Images are not written to \(path): \(reason). Remove what stands in the way below DATA, then retry the job."
        }
    }

    private func megabytes(_ bytes: Int64) -> String {
        bytes < 10_000_000 ? "\((bytes + 999) / 1000) kB" : "\(bytes / 1_000_000) MB"
    }
}
