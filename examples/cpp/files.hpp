// Read pictures and write masks by the rules of `bisenetv1 infer`, see docs/files.md.
#pragma once

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>
#include <stdexcept>
#include <string>

#include <opencv2/imgcodecs.hpp>

namespace fs = std::filesystem;
using Bytes = std::string;

const Bytes MARK = "[bisenetv1-plugin infer]";  // at the end of every file written by `infer`, see docs/files.md
const std::size_t TAIL = 256, MOST_BYTES = std::size_t(1) << 31, MOST_PIXELS = 178956970;

struct Refused : std::runtime_error {  // an error that ends the program
    using runtime_error::runtime_error;
};
struct Fault : std::runtime_error {  // the reason why one picture is skipped
    using runtime_error::runtime_error;
};

// Whether a JPEG is cut off: OpenCV silently fills the missing part. It refuses other truncated formats.
inline bool is_cut_off_jpeg(const Bytes& file) {
    if (file.compare(0, 3, "\xff\xd8\xff") != 0) return false;
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(file[at]); };
    for (std::size_t at = 2; at + 1 < file.size();) {
        const int marker = byte(at + 1);
        if (byte(at) != 0xff || marker == 0xff) at += 1;  // compressed pixels, or padding before a marker
        else if (marker == 0xd9) return false;  // the end
        else if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd7)) at += 2;
        else at += at + 3 < file.size() ? 2 + 256 * byte(at + 2) + byte(at + 3) : 4;
    }
    return true;
}

inline cv::Mat read_picture(const fs::path& path) {
    if (!fs::exists(path)) throw Fault("there is no such file");
    if (!fs::is_regular_file(path)) throw Fault("it is not a regular file: save its content as a file");
    if (fs::file_size(path) == 0) throw Fault("it is empty: copy or download it again");
    if (fs::file_size(path) >= MOST_BYTES) throw Fault("it has too many bytes: cut it into tiles");
    std::ifstream file(path, std::ios::binary);
    Bytes content(fs::file_size(path), 0);
    if (!file.read(content.data(), content.size())) throw Fault(std::strerror(errno));
    if (is_cut_off_jpeg(content)) throw Fault("it is cut off: copy or download it again");
    const cv::Mat pixels = cv::imdecode(cv::Mat(1, int(content.size()), CV_8U, content.data()), cv::IMREAD_COLOR);
    if (pixels.empty()) throw Fault("it is damaged, or of a kind that OpenCV does not read: save it as PNG or JPEG");
    if (pixels.total() > MOST_PIXELS) throw Fault("it has more than 178956970 pixels: cut it into tiles");
    return pixels;
}

inline Bytes big_endian(std::uint32_t number) {
    return {char(number >> 24), char(number >> 16), char(number >> 8), char(number)};
}

inline Bytes chunk(const Bytes& type, const Bytes& content) {
    std::uint32_t crc = ~0u;
    for (unsigned char byte : type + content) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return big_endian(std::uint32_t(content.size())) + type + content + big_endian(~crc);
}

// A mask as a PNG with the mark, gray or with a palette. OpenCV cannot write palettes.
inline Bytes png_of(const cv::Mat& mask, const Bytes& palette = "") {
    std::vector<unsigned char> encoded;
    cv::imencode(".png", mask, encoded);
    const Bytes png(encoded.begin(), encoded.end()), mark = chunk("tEXt", Bytes("Software\0", 9) + MARK);
    Bytes header = png.substr(16, 13);  // of IHDR, which ends at byte 33; IEND is the last 12 bytes
    if (!palette.empty()) header[9] = 3;
    return png.substr(0, 8) + chunk("IHDR", header) + (palette.empty() ? "" : chunk("PLTE", palette)) +
           png.substr(33, png.size() - 33 - 12) + mark + png.substr(png.size() - 12);
}

inline void check_target(const fs::path& target, const std::set<fs::path>& pictures) {
    if (!fs::exists(target)) return;
    for (const auto& picture : pictures)
        if (fs::exists(picture) && fs::equivalent(target, picture))
            throw Refused(target.string() + " would be written, and it is read: name another place for the results.");
    if (!fs::is_regular_file(target))
        throw Refused(target.string() + " is not a regular file: name another place for the results.");
    std::ifstream file(target, std::ios::binary);
    const auto size = fs::file_size(target);
    file.seekg(size > TAIL ? size - TAIL : 0);
    const Bytes tail(std::istreambuf_iterator<char>(file), {});
    if (size && tail.find(MARK) == Bytes::npos)
        throw Refused(target.string() +
                      " exists, and no earlier run made it: move it away, or name another place for the results.");
}

// Writes a temporary file in the same folder, then renames it. A link is kept, and its target is written.
inline void write(const fs::path& path, const Bytes& content) {
    fs::path target = path;
    while (fs::is_symlink(target)) target = target.parent_path() / fs::read_symlink(target);
    static std::mt19937_64 random{std::random_device{}()};
    const fs::path temporary = target.parent_path() / ("part-" + std::to_string(random()) + ".png");
    std::error_code error;
    std::ofstream file(temporary, std::ios::binary);
    file.write(content.data(), content.size());
    file.close();
    if (!file) error.assign(errno, std::generic_category());
    else fs::rename(temporary, target, error);
    if (!error) return;
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw Refused(path.string() + ": " + error.message() + "; make room there, or choose another folder.");
}
